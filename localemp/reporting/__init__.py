"""Tables, figures and one self-contained page from runs, with the paper's figures beside ours."""
