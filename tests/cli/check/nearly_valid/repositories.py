# SPDX-License-Identifier: Apache-2.0
"""Draws a repository: a valid one with one to three changes of its configs, their texts or its version folders."""

from config_cases.case import MODEL, Case
from google.protobuf import text_format
from hypothesis import strategies as st

from nearly_valid import message_changes, text_changes
from nearly_valid.valid_repositories import VALID

# The entries of a model's folder. Most models have one version.
_VERSIONS = (("1",), ("1",), ("1",), ("2",), ("1", "3"), (), ("0",), ("01",), ("-1",), ("1.0",), ("latest",), ("1a",))


@st.composite
def repositories(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(sorted(VALID)))
    texts = dict(VALID[name])
    num_changes = draw(st.sampled_from([1, 1, 1, 2, 2, 3]))
    kinds = draw(
        st.lists(st.sampled_from(["message"] * 7 + ["text"] * 2 + ["folder"]), min_size=1, max_size=num_changes)
    )
    configs = {model: message_changes.parse(text) for model, text in texts.items()}
    known_names = message_changes.names(list(configs.values()))
    for _ in range(kinds.count("message")):
        model = draw(_models(configs))
        draw(message_changes.change(configs[model], known_names))
        texts[model] = text_format.MessageToString(configs[model])
    for _ in range(kinds.count("text")):
        model = draw(_models(texts))
        texts[model] = draw(text_changes.changed(texts[model]))
    files = {f"{model}/config.pbtxt": text for model, text in texts.items()}
    for model in texts:
        versions = draw(st.sampled_from(_VERSIONS)) if "folder" in kinds else ("1",)
        files |= {f"{model}/{version or 'docs'}/weights": "" for version in versions or ("",)}
    config = files.pop(f"{MODEL}/config.pbtxt")
    return Case(f"{name}: {', '.join(kinds)}", config, files=files)


def _models(texts: dict[str, object]) -> st.SearchStrategy[str]:
    """One of the models; most often the one to load."""
    return st.sampled_from([MODEL] * len(texts) + sorted(texts))
