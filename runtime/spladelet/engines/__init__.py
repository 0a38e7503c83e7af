"""Hand over to a search engine when one machine is not enough.

    from spladelet import Encoder, Index
    from spladelet.engines import TermNames, connect, push

    encoder, index = Encoder.load(), Index.open("my-index")
    engine = connect("elasticsearch", "passages", names=TermNames(encoder.term))
    print(push(engine, index))
    print(engine.search(encoder.encode_query("why is my kitten humming"), k=3))

Each engine needs the extra of its name; `preview` says beforehand what it does to the weights, and
`convert` writes files for engines without an adapter.
"""

from spladelet.engines import elasticsearch, milvus, opensearch, qdrant  # noqa: F401 - registers
from spladelet.engines.base import Engine, EngineHit, Record, Written
from spladelet.engines.facts import Facts
from spladelet.engines.formats import FORMATS, convert, seismic_mapping, write_topics
from spladelet.engines.payload import TermNames, id_keyed, term_keyed
from spladelet.engines.registry import connect, engines, register
from spladelet.engines.simulation import Preview, preview, simulations
from spladelet.engines.transfer import PushReport, push

__all__ = [
    "FORMATS",
    "Engine",
    "EngineHit",
    "Facts",
    "Preview",
    "PushReport",
    "Record",
    "TermNames",
    "Written",
    "connect",
    "convert",
    "engines",
    "id_keyed",
    "preview",
    "push",
    "register",
    "seismic_mapping",
    "simulations",
    "term_keyed",
    "write_topics",
]
