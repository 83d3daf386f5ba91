"""Tables, figures and one self-contained page from runs, with the paper's results next to ours."""
