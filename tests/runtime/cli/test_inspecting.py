"""Commands that say what a model or an index is, and whether it is whole."""

import json
import re

from spladelet.index.format import FILES, WORD_FILES


def test_info_describes_the_default_model(encoder, run):
    facts = json.loads(run("info", "--json"))
    printed = run("info")

    assert facts["fingerprint"] == encoder.fingerprint
    assert facts["vocab_size"] == encoder.vocab_size
    assert re.search(rf"^fingerprint +{encoder.fingerprint}$", printed, re.MULTILINE)


def test_info_describes_an_index(encoder, run, saved):
    facts = json.loads(run("info", "--json", saved))
    printed = run("info", saved)

    assert facts["documents"] == 3
    assert facts["fingerprint"] == encoder.fingerprint
    assert facts["model_name"] == encoder.description.name
    assert re.search(r"^documents +3$", printed, re.MULTILINE)


def test_verify_counts_the_files_it_checked(encoder, run, saved, bundle_folder):
    files = len(encoder.description.all_files)

    assert run("verify") == f"{bundle_folder}: {files} files, all as they should be\n"
    assert json.loads(run("verify", "--json", saved)) == {
        "path": str(saved),
        "files": len(FILES) + len(WORD_FILES),
        "intact": True,
    }


def test_verify_names_the_damaged_file(fail, copy_bundle, overwrite):
    folder = copy_bundle()
    content = (folder / "tokenizer.json").read_bytes()
    overwrite(folder / "tokenizer.json", content.replace(b'"cat"', b'"car"'))

    assert "tokenizer.json has sha256" in fail("verify", folder)
