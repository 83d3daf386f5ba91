"""`localemp report` as a person runs it."""

from small_runs import four, make_run


def test_without_a_file_the_tables_are_printed(localemp):
    four(localemp.folder / "zero")
    make_run(localemp.folder / "small", {"a": "Oh."}, dialogues=4)
    done = localemp("report", "zero", "small")
    assert done.returncode == 0, done.stderr
    for told in (
        "As in the paper's Tables 1 and 3",
        "Dist-1",
        "zero",
        "not finished",
        "a: on 1 dialogues",
        "n/a in Acc",
    ):
        assert told in done.stdout
    narrow = localemp("report", "zero", "small", env={"COLUMNS": "80"}).stdout
    assert "F_BERT" in narrow and "…" not in narrow
    assert sum(line.split()[:2] == ["scripted", "4"] for line in narrow.splitlines()) >= 2


def test_every_form_is_written_where_it_is_asked_for(localemp):
    four(localemp.folder / "zero")
    forms = ("--html", "out/r.html", "--markdown", "r.md", "--latex", "r.tex", "--csv", "tables")
    done = localemp("report", "zero", *forms, "--title", "T")
    assert done.returncode == 0, done.stderr
    assert "written: out/r.html" in done.stdout
    assert "<title>T</title>" in (localemp.folder / "out/r.html").read_text()
    assert "| scripted zero-shot |" in (localemp.folder / "r.md").read_text()
    assert r"\toprule" in (localemp.folder / "r.tex").read_text()
    tables = {path.stem for path in (localemp.folder / "tables").iterdir()}
    assert tables >= {"automatic", "automatic-diversity", "automatic-form", "automatic-second", "effort"}
    localemp("report", "zero", "--csv", "all.csv")
    assert (localemp.folder / "all.csv").read_text().startswith("table,row,about,published,column,value")


def test_the_papers_rows_are_there_unless_left_out(localemp):
    four(localemp.folder / "zero")
    plain = localemp("report", "zero").stdout
    assert "MoEL, the paper's Table 1" in plain and "ChatGPT (+ 0-shot), the paper's Table 1" in plain
    assert "EC (Soft), Table 1" in localemp("report", "zero", env={"COLUMNS": "80"}).stdout
    without = localemp("report", "zero", "--published", "none").stdout
    assert "MoEL" not in without and "zero" in without
    (localemp.folder / "none.toml").write_text('paper = "Another paper"')
    assert "MoEL" not in localemp("report", "zero", "--published", "none.toml").stdout


def test_what_cannot_be_is_an_error_with_the_next_step(localemp):
    four(localemp.folder / "zero")
    (localemp.folder / "bad.toml").write_text("paper = 3")
    for words, told in [
        (("nowhere",), "is not a run"),
        (("zero", "--html", "zero"), "--html zero: cannot be written"),
        (("zero", "--published", "bad.toml"), "paper: Input should be a valid string"),
        (("zero", "--published", "none.toml"), "none.toml: cannot be read"),
        (("zero", "--published", "./none"), "none: cannot be read"),
    ]:
        done = localemp("report", *words)
        assert done.returncode in (1, 2) and told in done.stderr, done.stderr
        assert "hint:" in done.stderr
    assert localemp("report").returncode == 2
