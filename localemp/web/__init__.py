"""Building blocks of localemp's servers: ASGI helpers, and checks of requests."""
