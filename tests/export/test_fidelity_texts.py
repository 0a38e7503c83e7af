from spladelet_export.checks.fidelity_texts import built_in_texts


def test_the_built_in_texts_cover_what_they_say():
    texts = built_in_texts()

    assert len(set(texts)) == len(texts) > 50
    assert min(map(len, texts)) == 1
    assert max(len(text.split()) for text in texts) >= 700
    assert any(ord(character) > 0x1F000 for text in texts for character in text)
