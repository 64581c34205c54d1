"""The most that a call can cost: how much its request allows, at the dearest rate at which it may be served.

Everything here errs upwards. A provider that stays within the output maximum it was sent and within its own published
limits never bills more than this; where it may, see docs/budgets.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import NamedTuple

from token_tracker.domain.extras import ServiceTier
from token_tracker.domain.pricing import Choice, CostSource
from token_tracker.domain.rates import PICO_PER_USD

MESSAGE_TOKENS = 64  # what a provider wraps around a message or a tool
PREAMBLE_TOKENS = 1024  # what it puts before the prompt where there are tools or a format for the answer
AUDIO_BYTES_PER_S = 500  # 4 kbit/s: below what any codec in use makes of speech
AUDIO_TOKENS_PER_S = 50  # Gemini counts 32, others less
SPEECH_TOKENS_PER_CHARACTER = 64  # sound made of text, slowly spoken
PICO_PER_NANO = 1000
LARGEST_TEXT = 2**62  # tokens: where a price has no tier by length

# Tokens of one image however large: OpenAI's most patches times its dearest multiplier, Anthropic's, xAI's and
# Mistral's published maxima; the demo counts words alone. Others: the model's context window.
_IMAGE_TOKENS = {"openai": 24_600, "azure": 24_600, "anthropic": 5_000, "xai": 2_000, "mistral": 5_000, "demo": 0}
_SMALL_OMNI = "4o-mini"  # it counts an image 33 times as high as its siblings do
_SMALL_OMNI_IMAGE_TOKENS = 48_200
# They search by themselves, as often as they like.
_SEARCHING = ("search-preview", "preview-search", "search-api", "deep-research", "compound", "perplexity/", ":online")

_FAST = frozenset((ServiceTier.FAST, ServiceTier.US_FAST))
_TEXT = ("input_tokens", "cache_read_tokens")
_WRITES = ("cache_write_5m_tokens", "cache_write_1h_tokens")
_WRITTEN = ("output_tokens", "reasoning_tokens", "output_image_tokens")
_SPOKEN = (*_WRITTEN, "output_audio_tokens")


class Extent(NamedTuple):
    """The most that a request asks for, as far as its bytes tell.

    `text_tokens`: of all that is sent as text, wrappings included. `images`, `audio_bytes`: sent inline. `is_open`:
    something is referenced, or sent in a form that says little of its size, so only the model's context window bounds
    the input. `unbounded`: what nothing bounds, as a noun; '' if all is bound. `outputs`: how many answers it asks for
    (0: none that is counted in tokens of its own choosing); `own_maximum`: of output tokens of each, None if it names
    none. The rest are units besides: `made_tokens` of images or sound that no maximum bounds, and what is no token.
    `windows`: how many inputs it has, each of which may fill the model's context window.
    """

    text_tokens: int = 0
    images: int = 0
    audio_bytes: int = 0
    is_open: bool = False
    unbounded: str = ""
    outputs: int = 1
    own_maximum: int | None = None
    extra_output_tokens: int = 0  # billed as output beside the maximum: a prediction that was not taken
    writes_cache: bool = False
    speaks: bool = False
    tiers: tuple[ServiceTier, ...] = (ServiceTier.STANDARD,)
    made_tokens: int = 0
    made_class: str = ""
    characters: int = 0
    pictures: int = 0
    seconds: int = 0
    queries: int = 0
    windows: int = 1

    @property
    def units(self) -> Iterable[tuple[str, int]]:
        if self.outputs:  # only routes without any have others
            return ()
        named = (
            ("characters", self.characters),
            ("images", self.pictures),
            ("seconds", self.seconds),
            ("queries", self.queries),
        )
        return ((name, count) for name, count in named if count)


_PLAIN = Extent()


class Facts(NamedTuple):
    """What is known of a deployment's model; None: not known."""

    context_tokens: int | None = None
    output_tokens: int | None = None


NO_FACTS = Facts()
NOTHING = Extent(outputs=0)  # of a route that nobody bills


class Candidate(NamedTuple):
    """A deployment that a call may reach."""

    provider: str
    model: str
    price: Choice
    facts: Facts = NO_FACTS


class Bound(NamedTuple):
    """`fixed + per_output * (the output maximum)` for the dearest candidate of each part.

    None in `usd_fixed_nano`: nothing bounds or prices the money (`is_priced` False: no price), in `tokens_fixed`:
    nothing bounds the tokens. `model_maximum`: of output tokens, None where any candidate's is unknown. `why`: what
    has no bound.
    """

    usd_fixed_nano: int | None
    usd_per_output_pico: int
    tokens_fixed: int | None
    tokens_per_output: int
    model_maximum: int | None = None
    is_priced: bool = True
    why: str = ""


class Dearest(NamedTuple):
    """What a plain text (see `is_plain`) of less than `below_tokens` costs at most at some candidates: pico-dollars for
    each token of either side."""

    input_pico: int
    output_pico: int
    below_tokens: int
    model_maximum: int | None

    def bound(self, text_tokens: int) -> Bound:
        """The same as `worst_case`."""
        usd = -(-text_tokens * self.input_pico // PICO_PER_NANO)
        return Bound(usd, self.output_pico, text_tokens, 1, self.model_maximum)


def is_plain(extent: Extent) -> bool:
    """Whether it is one answer to a text and nothing else: what nearly all calls are."""
    return extent[1:6] == _PLAIN[1:6] and extent[7:] == _PLAIN[7:]  # all but `text_tokens` and `own_maximum`


def dearest(candidates: Iterable[Candidate]) -> Dearest | None:
    """For all plain texts at once; None where the least of them has no bound or no price."""
    incoming = outgoing = 0
    below = LARGEST_TEXT
    maxima: list[int | None] = []
    for candidate in candidates:
        maxima.append(candidate.facts.output_tokens)
        if _unbounded(_PLAIN, candidate, 0):
            return None
        if _is_free(candidate.price):
            continue
        price = candidate.price.price
        if price is None or not price.table:
            return None
        table = price.table
        inputs = table.dearest_pico(_input_classes(_PLAIN, candidate), 0, _PLAIN.tiers)
        outputs = table.dearest_pico(_output_classes(_PLAIN), 0, _PLAIN.tiers)
        if inputs is None or outputs is None:
            return None
        incoming, outgoing = max(incoming, inputs), max(outgoing, outputs)
        below = min(below, table.second_beginning or below)
    return Dearest(incoming, outgoing, below, _model_maximum(maxima)) if maxima else None


def worst_case(extent: Extent, candidates: Iterable[Candidate]) -> Bound:
    """The bound over all that the call may reach."""
    if extent is NOTHING:
        return Bound(0, 0, 0, 0)
    usd: int | None = 0
    per_output = 0
    tokens: int | None = 0
    maxima: list[int | None] = []
    is_priced, why = True, ""
    for candidate in candidates:
        inputs = _input_tokens(extent, candidate)
        reason = _unbounded(extent, candidate, inputs)
        why = why or reason
        tokens = None if reason or tokens is None or inputs is None else max(tokens, _total(extent, inputs))
        maxima.append(candidate.facts.output_tokens)
        if _is_free(candidate.price):
            continue
        if reason and not (inputs is None and not extent.unbounded and _is_by_units(extent, candidate)):
            is_priced = is_priced and candidate.price.price is not None
            usd = None
            continue
        priced = _usd(extent, candidate, inputs or 0)
        is_priced = is_priced and priced is not None
        usd = None if usd is None or priced is None else max(usd, priced[0])
        per_output = max(per_output, priced[1]) if priced else per_output
    return Bound(usd, per_output, tokens, extent.outputs, _model_maximum(maxima), is_priced, why)


def _model_maximum(maxima: list[int | None]) -> int | None:
    return None if None in maxima else max((each for each in maxima if each is not None), default=None)


def _is_free(price: Choice) -> bool:
    """Whatever it consumes costs nothing: nobody bills it, or every rate is 0."""
    if price.price is None:
        return price.cost_source is CostSource.LOCAL
    return price.price.is_free


def _unbounded(extent: Extent, candidate: Candidate, inputs: int | None) -> str:
    if extent.unbounded:
        return extent.unbounded
    if candidate.provider == "perplexity" or any(word in candidate.model for word in _SEARCHING):
        return f"'{candidate.model}', which searches by itself"
    price = candidate.price.price
    if extent.is_open and not extent.outputs and price is not None and price.table.bills_other_units:
        return f"data of unknown size, which '{candidate.model}' may bill by the second or the image"
    if inputs is None:
        return (
            f"data of unknown size (a picture, a file, a link), while the context window of '{candidate.model}' is not "
            "known: say it in its model_info, as 'max_input_tokens'"
        )
    return ""


def _input_tokens(extent: Extent, candidate: Candidate) -> int | None:
    """The most prompt tokens; None where not even a context window bounds them."""
    image = _image_tokens(candidate) if extent.images else 0
    if extent.is_open or image is None:
        window = candidate.facts.context_tokens
        return None if window is None else window * extent.windows
    heard_s = -(-extent.audio_bytes // AUDIO_BYTES_PER_S)
    return extent.text_tokens + extent.images * image + heard_s * AUDIO_TOKENS_PER_S


def _image_tokens(candidate: Candidate) -> int | None:
    is_small_omni = candidate.provider in ("openai", "azure") and _SMALL_OMNI in candidate.model
    return _SMALL_OMNI_IMAGE_TOKENS if is_small_omni else _IMAGE_TOKENS.get(candidate.provider)


def _total(extent: Extent, inputs: int) -> int:
    return inputs + extent.extra_output_tokens + extent.made_tokens


def _usd(extent: Extent, candidate: Candidate, inputs: int) -> tuple[int, int] | None:
    """(nano-dollars whatever the output, pico-dollars for each token of the output maximum); None if the price does not
    tell."""
    price = candidate.price.price
    if price is None or not price.table:
        return None
    table = price.table
    if not _FAST.isdisjoint(extent.tiers) and not table.names(ServiceTier.FAST):
        return None  # twice the ordinary rates, or six times
    pico = 0
    for unit, count in extent.units:
        rate = table.dearest_unit(unit)
        if rate is not None:
            pico += ceil(count * rate * PICO_PER_USD)
    if _is_by_units(extent, candidate):
        return -(-pico // PICO_PER_NANO), 0
    incoming = table.dearest_pico(_input_classes(extent, candidate), inputs, extent.tiers)
    outgoing = table.dearest_pico(_output_classes(extent), inputs, extent.tiers)
    made = table.dearest_pico((extent.made_class,), inputs, extent.tiers) if extent.made_tokens else 0
    if incoming is None or outgoing is None or made is None:
        return None
    pico += inputs * incoming + extent.extra_output_tokens * outgoing + extent.made_tokens * made
    return -(-pico // PICO_PER_NANO), extent.outputs * outgoing


def _is_by_units(extent: Extent, candidate: Candidate) -> bool:
    """Whether the price bills what is no token, and no token beside it."""
    price = candidate.price.price
    if price is None or price.table.bills_tokens:
        return False
    return any(price.table.dearest_unit(unit) is not None for unit, _ in extent.units)


def _input_classes(extent: Extent, candidate: Candidate) -> tuple[str, ...]:
    """Anthropic writes to its cache only where it is told to, in its own words; of others it is not known."""
    classes: tuple[str, ...] = _TEXT
    if extent.writes_cache or candidate.provider != "anthropic":
        classes += _WRITES
    if extent.images or extent.is_open:
        classes += ("input_image_tokens",)
    return classes + (("input_audio_tokens",) if extent.audio_bytes or extent.is_open else ())


def _output_classes(extent: Extent) -> tuple[str, ...]:
    if not extent.outputs:
        return ()
    return _SPOKEN if extent.speaks else _WRITTEN
