import pytest
from runtime.evaluation.small_collection import write_collection


@pytest.fixture
def collection_folder(tmp_path):
    return write_collection(tmp_path / "small")
