"""The benchmarks of `localemp bench` and `localemp tune`."""
