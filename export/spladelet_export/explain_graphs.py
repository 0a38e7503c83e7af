"""What a bundle needs to say where weights come from: a second graph beside each of its graphs."""

import os
from pathlib import Path

import onnx

from spladelet.bundle.description import (
    EXPLAIN,
    GRAPH,
    QUERY_EXPLAIN,
    QUERY_GRAPH,
    Description,
)
from spladelet_export.amending import amend, write_auxiliary
from spladelet_export.errors import GraphError, door
from spladelet_export.graph.provenance import trace_positions

_BESIDE = {GRAPH: EXPLAIN, QUERY_GRAPH: QUERY_EXPLAIN}


@door("the bundle stays as it was")
def explain_bundle(bundle: str | os.PathLike[str]) -> Description:
    """Add to a bundle that was made before what `Encoder.sources` needs; vectors stay the same.

    Args:
        bundle: Its folder.

    Returns:
        Its description, in which the new files are listed.

    Raises:
        BundleError: There is no bundle, or it is damaged.
        InputError: It is a .zip.
        GraphError: Its graph does not pool as this version's do.
        ExportError: The folder cannot be written.
    """
    return amend(bundle, _BESIDE.values(), _graphs)


def add_explaining(folder: Path, description: Description) -> Description:
    """Write the second graphs; returns the description that lists them, too."""
    return write_auxiliary(folder, description, _graphs(folder, description))


def _graphs(folder: Path, description: Description) -> dict[str, bytes]:
    contents = {}
    for name in _BESIDE.keys() & description.files.keys():
        try:
            graph = onnx.load(folder / name, load_external_data=False)
        except Exception as error:  # protobuf's, whichever of its implementations is there
            raise GraphError(f"{folder / name} is no ONNX graph: {error}.") from error
        trace_positions(graph.graph)
        contents[_BESIDE[name]] = graph.SerializeToString(deterministic=True)
    return contents
