"""The reader of TOML: whatever it is given, it is a table or a TOMLError."""

import pytest

from localemp.utils.toml_reader import LARGEST_FILE, TOMLError, load_toml, parse_toml


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "not valid UTF-8"),
        (b"a = ", "not valid TOML: Invalid value"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"a = " + b"[" * 100_000, "nested more than 100 levels"),
        (b"a = " + b"[" * 150 + b"]" * 150, "nested more than 100 levels"),
        (b"a = " + b"{b = " * 150 + b"1" + b"}" * 150, "nested more than 100 levels"),
        (b"a" + b".a" * 200_000 + b" = 1", "nested more than 100 levels"),
        (b'a . "b" ' + b". 'c' " * 150 + b"= 1", "nested more than 100 levels"),
        (b"[" + b"a." * 101 + b"a]", "nested more than 100 levels"),
        (b"a = " + b"9" * 5_000, "an invalid number or date"),
        (b"#" * (LARGEST_FILE + 1), "more than 1 MiB"),
    ],
)
def test_unusable(content, said):
    with pytest.raises(TOMLError, match=said):
        parse_toml(content)


def test_usable(tmp_path):
    text = '\ufeffa.b.c = 1\n[table]\nsaid = "a.b.c. And so on... e.g. x.y.z"\n'
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode())
    assert load_toml(path) == (
        {"a": {"b": {"c": 1}}, "table": {"said": "a.b.c. And so on... e.g. x.y.z"}}, text.encode(),
    )  # fmt: skip
    with pytest.raises(OSError, match="No such file"):
        load_toml(tmp_path / "none.toml")
