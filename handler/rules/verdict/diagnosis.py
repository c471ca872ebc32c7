"""Whose trouble an error of the model service is: one table, from the HTTP status and the error's own words. Pure.

Servers disagree about statuses: some answer 400 while they load the model, some 500 to a request that is wrong, some
200 to everything. So each documented shape is a row of ROWS, the first row that matches decides, and what no row knows
goes by the status alone.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from handler.rules.verdict.complaint import Complaint, Shape


class Kind(StrEnum):
    """What a model's reply is, which decides how often the model is asked again."""

    ANSWER = "answer"
    REQUESTER = "requester"  # the request is at fault: the reply is its answer
    OPERATOR = "operator"  # key, money, URL or set-up: asked again, loudly, since every request would fail
    TEMPORARY = "temporary"  # loading, overloaded, away: asked again
    UNCERTAIN = "uncertain"  # may be either: asked again a few times
    NONSENSE = "nonsense"  # no answer although it says so: paid for, so asked again once


@dataclass(frozen=True, slots=True)
class Row:
    """A known error: where `pattern` is found in the words of an error with one of `statuses`, it is of `kind`.

    `what` names it in the log; `known` is who writes it so.
    """

    kind: Kind
    statuses: Collection[int]
    what: str
    known: str
    pattern: str

    def knows(self, words: str) -> bool:
        """Whether these are its words."""
        # Compiled when it is first wanted, and kept by `re`: to compile all takes a part of every start.
        return re.search(self.pattern, words, re.IGNORECASE | re.MULTILINE) is not None


def _row(kind: Kind, statuses: Collection[int], what: str, known: str, *patterns: str) -> Row:
    return Row(kind, statuses, what, known, "|".join(patterns))


NOT_READY = "not ready yet"
_NO_PATH = "no such path at the model service"
_CLIENT = range(400, 500)
_ALL = range(400, 600)
# Where a server that means the request says "internal error", and where an error inside a 200 names no status.
_SAID_TO_BE_THE_SERVERS = (500, 502)

ROWS: tuple[Row, ...] = (
    _row(
        Kind.REQUESTER, (429,), "the request is too large for any minute", "OpenAI",
        r"request too large",
    ),
    _row(
        Kind.OPERATOR, _ALL, "no money or quota",
        "OpenAI (429), DeepSeek and routers (402), Anthropic (400), LiteLLM (400), Fireworks (412), MiniMax (200)",
        r"insufficient[ _](user[ _])?(balance|quota|credits?|funds)", r"credit balance is too low",
        r"exceeded your current quota", r"budget (has been )?exceeded", r"budget_exceeded", r"spending limit",
        r"(out of|not enough|no) credits", r"account .{0,80}\b(suspended|deactivated|in arrears)", r"payment required",
    ),
    _row(
        Kind.REQUESTER, (*range(400, 404), 451, *_SAID_TO_BE_THE_SERVERS), "refused by moderation",
        "OpenRouter (403), Azure (400)",
        r"\bflagged\b", r"\bmoderation\b", r"content[ _-]?(policy|filter|management)", r"responsible.?ai",
    ),
    _row(
        Kind.REQUESTER, (401, 403), "a model that this key may not use", "OpenAI (403), LiteLLM (401)",
        r"model_not_found", r"model_access_denied", r"not have access to (the )?model",
        r"not (allowed|authorized|permitted) to (access|use) (this |the )?model",
    ),
    _row(
        Kind.OPERATOR, (400, 404, 422, *_SAID_TO_BE_THE_SERVERS), "the key is refused",
        "Gemini (400), xAI (400), LiteLLM (400), MiniMax (200)",
        r"api[ _-]?key.{0,20}\b(invalid|incorrect|not valid|expired|missing|required|not found)",
        r"\b(invalid|incorrect|missing|expired|no)[ _]api[ _-]?key", r"\bauthentication_?error", r"\bunauthenticated\b",
        r"^unauthori[sz]ed", r"invalid proxy server token", r"no_db_connection", r"\blogin fail",
    ),
    _row(
        Kind.OPERATOR, (400, 404, 405, 410, *_SAID_TO_BE_THE_SERVERS, 501), _NO_PATH,
        "LM Studio (200), FastAPI, vLLM, llama.cpp, OpenAI, Groq, Ollama, Kong, APISIX, Express, Spring",
        r"^(file |page |resource |endpoint |route |url |path |404[ :-]*)*(not found|not_found)[.!]?$",
        r"^(http )?method not allowed[.!]?$", r"404 page not found", r"unexpected endpoint or method",
        r"invalid url \(", r"unknown[ _](request[ _])?(url|path|endpoint|route)", r"no route matched", r"no such route",
        r"route .{0,80}not found", r"\bcannot (post|get) /", r"no (static resource|handler found)",
    ),
    _row(
        Kind.OPERATOR, (400, 421), "not spoken to as it wants: https, or another host name",
        "nginx, Go, Starlette",
        r"http request (was sent )?to (an )?https", r"invalid host header",
    ),
    _row(
        Kind.OPERATOR, _ALL, "no model is loaded, or it does not fit",
        "LM Studio (400, 404), Ollama (500), text-generation-webui",
        r"no models? (is |are )?(currently )?loaded", r"requires more system memory", r"insufficient system resources",
        r"not enough (free )?(v?ram|memory|gpu memory)",
    ),
    _row(
        Kind.TEMPORARY, _ALL, NOT_READY,
        "KServe and Seldon MLServer (400), Triton (400), LM Studio (400), Hugging Face, llama.cpp (503), TorchServe",
        r"\bnot (yet )?(ready|been loaded|loaded yet)\b", r"\bno available versions\b",
        r"(currently|still|is|being) (loading|loaded|starting|initiali[sz]ing|warming)", r"\bloading model\b",
        r"(failed|unable) to load model", r"model (was |is |has been )?unloaded", r"warming up",
        r"server (is )?(exiting|shutting down|starting)", r"cold start",
    ),
    _row(
        Kind.TEMPORARY, _ALL, "overloaded",
        "TGI, TEI, vLLM, SGLang, Triton, KoboldCpp, LiteLLM, Mistral, Groq (498)",
        r"overloaded", r"\b(queue|server|model|service|engine) (is )?(currently )?(full|busy|at capacity)\b",
        r"exceeds maximum queue", r"maximum pending requests", r"too many (concurrent )?requests", r"capacity exceeded",
        r"rate[ _-]?limit", r"(please )?(try|retry) again (later|in|after)", r"no deployments available", r"throttl",
        r"resource_exhausted",
    ),
    _row(
        Kind.TEMPORARY, _ALL, "the engine, or the server behind, is gone",
        "vLLM (400, 500), LM Studio (400), Ollama (500), LiteLLM (400), Envoy, OpenRouter (200)",
        r"background loop (has errored|is not running)", r"engine ?(core)?.{0,30}\b(dead|died|encountered an issue)",
        r"engine_?dead", r"runner process (has terminated|no longer running)", r"model has crashed",
        r"api_?connection_?error", r"upstream (connect|request|server|service|provider)", r"no healthy upstream",
        r"\bbad gateway\b", r"gateway time-?out", r"(service|temporarily|currently) unavailable", r"connection refused",
    ),
    _row(
        Kind.TEMPORARY, _CLIENT, "an internal error in a 4xx", "LiteLLM, FastChat",
        r"internal[ _]?(server[ _]?)?error",
    ),
    _row(
        Kind.UNCERTAIN, _ALL, "out of memory", "TGI (424), Triton (400), PyTorch servers",
        r"out of memory", r"outofmemory", r"\b(cuda|hip|cublas|nccl) error", r"failed to allocate",
    ),
    _row(
        Kind.REQUESTER, _SAID_TO_BE_THE_SERVERS, "more than the model takes in",
        "llama.cpp, KServe, Ollama, TEI, vLLM",
        r"too (large|long|many tokens)\b", r"\bcontext[ _](length|size|window)",
        r"exceed.{0,40}\b(context|tokens?|batch size)",
        r"\b(longer|larger|greater|more) than the (model|max|context|physical|allowed)",
        r"maximum (input|sequence) length", r"max_?tokens .{0,40}(must|exceed|greater|larger|at least|less)",
        r"input length", r"must have less than",
    ),
    _row(
        Kind.REQUESTER, _SAID_TO_BE_THE_SERVERS, "something that this model cannot do",
        "llama.cpp, Ollama, vLLM, LocalAI",
        r"(\bnot|n't) support(s|ed)?\b", r"\bunsupported\b", r"\bmmproj\b",
        r"missing data required for image input", r"not (a|an) (multi-?modal|vision|chat|embedding)",
        r"requires? --?\w+", r"not implemented", r"unimplemented", r"at most 0 (image|audio|video)",
    ),
    _row(
        Kind.REQUESTER, _SAID_TO_BE_THE_SERVERS, "something in it that cannot be read",
        "llama.cpp, Ollama, LocalAI, Python servers",
        r"json\.exception", r"\bjson_?(decode|schema|parse)", r"\bjinja", r"chat[ _]template",
        r"\broles?\b.{0,60}\b(must|alternate|support)", r"\bgrammar\b", r"illegal base64",
        r"(failed|unable|cannot|could not|error) (to )?(pars|decod|load|identify|open|process|fetch|download)\w* "
        r"(the |an? )?(image|audio|video|file|url|message|tool|input|prompt|schema|json|request|template|base64)",
        r"invalid (image|audio|url|type|value|param|input|request|role|schema|argument|json|base64|message|prompt)",
        r"invalid (tool|format|token)", r"\binvalid_?(argument|parameter|value|type|input)", r"\bbad_?request",
        r"unprocessable", r"validation_?error", r"\b(is|are) (required|missing)\b",
        r"\bmissing (required|field|param|key|prompt|messages|model|input)",
        r"\bmust (not )?be (a|an|one of|either|at (least|most)|less|greater|between|of type|non-?empty|positive)\b",
        r"\bunknown (field|param|argument|role|key|tool)", r"(cannot|must not|can't) be (empty|null|none|blank)",
    ),
    _row(
        Kind.REQUESTER, _SAID_TO_BE_THE_SERVERS, "a model that is not there",
        "LocalAI, Xinference, KServe, RunPod (200)",
        r"\bmodel_not_found\b", r"\bunknown model", r"\bno such model", r"\binvalid model",
        r"\b(model|adapter|lora|deployment)\b.{0,200}\b(not found|(does|do)( not|n't) exist|not exist)",
    ),
)  # fmt: skip

_OPERATORS = frozenset({401, 402, 403, 407, 421, 426, 511})
_LATER = frozenset({408, 409, 423, 424, 425, 429, 498})  # 424: TGI and TEI, of a failure while generating; 498: Groq
_ABSENT = frozenset({404, 405, 410})
_NEVER = frozenset({501, 505})
_NAMES_A_MODEL = re.compile(r"\b(model|adapter|lora|deployment)s?\b", re.IGNORECASE)


def diagnose(status: int, complaint: Complaint) -> tuple[Kind, str]:
    """The kind of an error with this status, and what the table calls it ("" where no row knows it)."""
    for row in ROWS:
        if status in row.statuses and _may_be(row, status, complaint) and row.knows(complaint.words):
            return _of(row, status, complaint), row.what
    return _by_status(status, complaint), ""


def _of(row: Row, status: int, complaint: Complaint) -> Kind:
    # The model's own API says that it has no such path: MODEL_URL may be wrong, or the request wants what it cannot do.
    return Kind.UNCERTAIN if row.what is _NO_PATH and status == 404 and complaint.shape is Shape.API else row.kind


def _may_be(row: Row, status: int, complaint: Complaint) -> bool:
    # A page may quote anything, a program's source even: it is no verdict on the request, and a clear status is better.
    return complaint.shape is not Shape.PAGE or (row.kind is not Kind.REQUESTER and status in (400, 500))


def _by_status(status: int, complaint: Complaint) -> Kind:
    if status in _OPERATORS or 300 <= status < 400:
        return Kind.OPERATOR
    if status in _ABSENT:
        return _absent(complaint)
    if status == 500 or (status == 400 and _says_nothing(complaint)):
        return Kind.UNCERTAIN
    if status in _LATER or not (400 <= status < 500 or status in _NEVER):
        return Kind.TEMPORARY
    return Kind.REQUESTER


def _says_nothing(complaint: Complaint) -> bool:
    return complaint.shape is Shape.PAGE or (complaint.shape is Shape.TEXT and not complaint.message.strip())


def _absent(complaint: Complaint) -> Kind:
    """The path is not there, which is the operator's fault; or the model is not, which is the requester's."""
    if complaint.shape is Shape.API:
        return Kind.REQUESTER
    if complaint.shape is not Shape.PAGE and _NAMES_A_MODEL.search(complaint.message):
        return Kind.REQUESTER
    return Kind.UNCERTAIN if complaint.shape is Shape.FLAT and complaint.message else Kind.OPERATOR
