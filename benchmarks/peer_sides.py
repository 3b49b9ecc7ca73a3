"""The sides of peers.py: how each is fitted and how it reads texts.

Imports are lazy on purpose: a side's memory is that of a process which imports what this side
needs, and nothing else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Scores = Callable[[Sequence[str]], np.ndarray]

MINILM, TFIDF, BERT, PROFANITY = (
    "MiniLM embedding + logistic",
    "TF-IDF + logistic",
    "BERT-base shape, random weights (speed only)",
    "alt-profanity-check",
)
BATCH = 32
"""Texts that sentence-transformers reads at once, unless told otherwise."""

MINILM_TOKENS, BERT_TOKENS = 256, 512


@dataclass(frozen=True)
class Side:
    """One of those that are compared.

    `load` takes the fitted head, if there is one, and gives what scores texts; a side without
    `fit` is not fitted here.
    """

    name: str
    load: Callable[[Any], Scores]
    fit: Callable[[Sequence[str], np.ndarray], Any] | None = None
    is_judged: bool = True
    note: str = ""


def sides(classifiers: Sequence[str]) -> list[Side]:
    found = [Side(Path(name).name, _classifier(name)) for name in classifiers]
    found.append(Side(MINILM, _minilm, _fit_minilm, note=_minilm_note()))
    found.append(Side(TFIDF, _tfidf, _fit_tfidf, note="words 1-2 and characters 2-5, counted"))
    found.append(Side(BERT, _bert, is_judged=False))
    if importlib.util.find_spec("profanity_check") is not None:
        found.append(
            Side(
                PROFANITY,
                _profanity,
                note="its training data overlap jigsaw and davidson: figures there are too good",
            )
        )
    return found


def _classifier(name: str) -> Callable[[Any], Scores]:
    def load(head: Any) -> Scores:
        del head
        from splinellm.classifiers.judging import judge_of
        from splinellm.learn.artifact import load_classifier

        return judge_of(load_classifier(name)).scores

    return load


def _has_sentence_transformers() -> bool:
    return importlib.util.find_spec("sentence_transformers") is not None


def _minilm_note() -> str:
    if _has_sentence_transformers():
        return "through sentence-transformers"
    return "through transformers: batches of 32 sorted by length, mean over tokens, length one"


def _minilm_folder() -> Path:
    from splinellm.backbone.builtin import BUILTIN_MODELS, pull
    from splinellm.backbone.conversion import checkpoint_folder

    return checkpoint_folder(pull("minilm-l6"), BUILTIN_MODELS["minilm-l6"].sha256)


def _embedder() -> Callable[[Sequence[str]], np.ndarray]:
    folder = str(_minilm_folder())
    if _has_sentence_transformers():
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(folder)
        return lambda texts: np.asarray(
            encoder.encode(
                list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
            )
        )
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return lambda texts: _mean_pooled(model, tokenizer, texts, MINILM_TOKENS)


def reads_whole(texts: Sequence[str]) -> list[bool]:
    """Whether the embedding is of all of a text: it cuts those of more than 256 tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(_minilm_folder()))
    return [len(ids) <= MINILM_TOKENS for ids in tokenizer(list(texts), verbose=False)["input_ids"]]


def _mean_pooled(model: Any, tokenizer: Any, texts: Sequence[str], limit: int) -> np.ndarray:
    """As sentence-transformers does it: longest first by characters, padded batch by batch."""
    import torch

    order = np.argsort([-len(text) for text in texts], kind="stable")
    found = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for begin in range(0, len(texts), BATCH):
            rows = order[begin : begin + BATCH]
            inputs = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            mask = inputs["attention_mask"].unsqueeze(-1)
            states = model(**inputs).last_hidden_state
            mean = (states * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return found


def _fit_minilm(texts: Sequence[str], labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegressionCV

    # The penalty by ROC-AUC within the training rows, as the boxed ones have it.
    head = LogisticRegressionCV(
        Cs=[0.1, 1.0, 10.0, 100.0],
        class_weight="balanced",
        scoring="roc_auc",
        max_iter=2000,
        cv=3,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    return head.fit(_embedder()(texts), labels)


def _minilm(head: Any) -> Scores:
    embed = _embedder()
    return lambda texts: np.asarray(head.predict_proba(embed(texts))[:, 1])


def _fit_tfidf(texts: Sequence[str], labels: np.ndarray) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True, max_features=200_000
    )
    head = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000, solver="liblinear")
    return make_pipeline(make_union(words, letters), head).fit(list(texts), labels)


def _tfidf(head: Any) -> Scores:
    return lambda texts: np.asarray(head.predict_proba(list(texts))[:, 1])


def _bert(head: Any) -> Scores:
    del head
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(_minilm_folder()))  # BERT's own word pieces
    model = BertModel(BertConfig(), add_pooling_layer=False).eval()
    return lambda texts: _mean_pooled(model, tokenizer, texts, BERT_TOKENS)[:, 0]


def _profanity(head: Any) -> Scores:
    del head
    import warnings

    with warnings.catch_warnings():  # of another scikit-learn than the one that fitted it
        warnings.simplefilter("ignore")
        from profanity_check import predict_prob

    return lambda texts: np.asarray(predict_prob(list(texts)), np.float64)
