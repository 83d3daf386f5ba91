"""What `localemp bench` and `localemp tune` run: figures that say how they were made."""
