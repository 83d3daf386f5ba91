"""What the servers of localemp are built from: ASGI pieces, and checks that every request passes."""
