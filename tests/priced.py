"""Profiles of models of the fake hosted service, with their prices."""

PRICES = """
[price]
prompt = 0.15
completion = 0.6
cached = 0.075
batch = 0.5
as_of = 2026-03-21

[price.priority]
prompt = 0.25
completion = 1.0
cached = 0.125
"""


def priced_profile(path, service, prices=PRICES, model="gpt-4o-mini", more=""):
    """Write a profile of a model of the service."""
    head = f'kind = "chat"\nengine = "openai"\nmodel = "{model}"\nbase_url = "{service.url}"\nlayout = "chat"\n'
    path.write_text(f"{head}system_role = true\n{more}{prices}")
    return str(path)
