"""A script without a main guard is told at once: vLLM's process would import it, and run it anew."""

import sys
import types

import pytest

from localemp.engines.registry import engine_entry
from localemp.errors import OptionError
from localemp.utils.main_guard import check_main_guard

CALL = "check()\n"
BELOW = f'if __name__ == "__main__":\n    {CALL}'


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a text as the main script, with `check` as one of its functions."""

    def run(text: str, name: str = "mine.py", spec: str = "") -> None:
        main = types.ModuleType("__main__")
        path = tmp_path / name
        if name.endswith(".py"):
            path.write_text(text)
        main.__file__ = str(path)
        main.__spec__ = types.SimpleNamespace(name=spec) if spec else None
        vars(main)["check"] = lambda: check_main_guard("vLLM")
        monkeypatch.setitem(sys.modules, "__main__", main)
        exec(compile(text, str(path), "exec"), vars(main))

    return run


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (CALL, 1),
        (f"def main():\n    {CALL}\nmain()\n", 4),
        (f"try:\n    {CALL}finally:\n    pass\n", 2),
        (f"if __name__ == 'main' or True:\n    {CALL}", 2),
        (f"{BELOW}check()\n".replace("    check()", "    pass"), 3),
    ],
)
def test_a_line_that_a_new_process_would_run_again(run, text, line):
    with pytest.raises(OptionError, match=f"vLLM cannot start at .*mine.py, line {line}: put it below `if __name__"):
        run(text)


@pytest.mark.parametrize(
    "text",
    [
        BELOW,
        f"def main():\n    {CALL}\n{BELOW.replace('check', 'main')}",
        f"if '__main__' == __name__:\n    if True:\n        {CALL}",
        f"if __name__ != '__main__':\n    pass\nelse:\n    {CALL}",
        f"try:\n    if __name__ == '__main__':\n        {CALL}finally:\n    pass\n",
    ],
)
def test_a_line_that_only_the_script_itself_runs(run, text):
    run(text)


def test_what_no_process_imports(run):
    run(CALL, spec="mine.__main__")
    check_main_guard("vLLM")  # the main script's lines are not running


def test_a_script_from_standard_input(run):
    with pytest.raises(OptionError, match="<stdin> is no file"):
        run(CALL, name="<stdin>")


def test_vllm_asks_for_it_where_it_spawns(run, monkeypatch):
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    asking = "from localemp.engines.registry import engine_entry\nengine_entry('vllm').check_process()\n"
    with pytest.raises(OptionError, match=r"mine\.py, line 2"):
        run(asking)
    engine_entry("openai").check_process()
