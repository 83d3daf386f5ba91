"""Empathetic replies from open language models (Qian, Zhang and Liu 2023), on your own machine."""
