"""The tables and keys of slipway.toml, with their defaults and meanings."""

from copy import deepcopy
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from slipway.config.origins import check_origins
from slipway.domain.trace import SpanKind

Default = TypeVar("Default")


def default(value: Default) -> Default:
    """A list or table as default; every settings object gets its own copy."""
    copied: Default = msgspec.field(default_factory=lambda: deepcopy(value))
    return copied


Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of slipway.toml: immutable, unknown keys are refused."""


class ApplicationSettings(Table, frozen=True):
    """What the application is called and where its documents and questions lie."""

    name: Annotated[
        str,
        Meta(
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            description="Name of the application; clients call it as the model name.",
        ),
    ]
    purpose: Annotated[str, Meta(description="One sentence on what it is for; it opens the system card.")] = ""
    documents: Annotated[list[str], Meta(description="Folders, files and web addresses to answer from.")] = default(
        ["documents"]
    )
    questions: Annotated[
        str,
        Meta(description="JSONL file of questions with expected answers, or empty: some are made from the documents."),
    ] = ""
    excluded_uses: Annotated[list[str], Meta(description="Uses that the card names as not intended.")] = []


class DecideSettings(Table, frozen=True):
    """Requirements of the use case; a missing answer is named by `slipway decide`."""

    requests_per_day: Annotated[Positive | None, Meta(description="Requests a day at launch.")] = None
    input_tokens: Annotated[Positive | None, Meta(description="Mean tokens sent to the model per request.")] = None
    output_tokens: Annotated[Positive | None, Meta(description="Mean tokens the model writes per request.")] = None
    peak_factor: Annotated[float, Meta(ge=1, description="Busiest minute divided by the mean.")] = 3.0
    first_token_ms: Annotated[
        Positive | None, Meta(description="Longest wait for the first token, 99th percentile, milliseconds.")
    ] = None
    end_to_end_ms: Annotated[
        Positive | None, Meta(description="Longest whole answer, 99th percentile, milliseconds.")
    ] = None
    context_tokens: Annotated[int, Meta(ge=1, description="Longest context a request may need, tokens.")] = 8192
    residency: Annotated[
        str, Meta(description="Region the data must stay in, for example EU; empty when anywhere will do.")
    ] = ""
    data_may_leave: Annotated[bool, Meta(description="Whether requests may be sent to another company's API.")] = True
    commercial_use: Annotated[bool, Meta(description="Whether the application earns money (licences differ).")] = True
    monthly_budget: Annotated[Positive | None, Meta(description="Most that may be spent a month, in dollars.")] = None
    horizon_months: Annotated[int, Meta(ge=1, le=120, description="Months over which costs are compared.")] = 36
    growth_per_year: Annotated[float, Meta(gt=0, description="Traffic a year later divided by traffic now.")] = 1.0
    cached_share: Annotated[
        Share, Meta(description="Share of input tokens that a provider's prompt cache would serve.")
    ] = 0.0
    skills: Annotated[
        Literal["none", "some", "strong"], Meta(description="The team's experience in running models.")
    ] = "some"
    api_models: Annotated[list[str], Meta(description="Commercial models to compare, as provider/model.")] = default(
        ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]
    )
    open_models: Annotated[list[str], Meta(description="Open models to compare, by catalogue name.")] = default(
        ["llama-3.1-8b"]
    )
    gpu: Annotated[str, Meta(description="GPU type for hosting, by catalogue name.")] = "h100-sxm"
    gpu_hourly: Annotated[
        Positive | None, Meta(description="Your price of one GPU hour in dollars; empty takes the dated default.")
    ] = None
    gpu_reserved_hourly: Annotated[
        Positive | None, Meta(description="Your price of one GPU hour when reserved for the horizon, in dollars.")
    ] = None
    engineer_monthly: Annotated[float, Meta(ge=0, description="Cost of one engineer a month, in dollars.")] = 12000.0
    batch_share: Annotated[Share, Meta(description="Share of requests that may wait a day for their answer.")] = 0.0
    monthly_users: Annotated[
        Positive | None, Meta(description="People who will use it in a month; some licences have a cap.")
    ] = None
    trains_on_output: Annotated[
        bool, Meta(description="Whether answers will train another model (licences differ).")
    ] = False
    tuning_tokens: Annotated[
        float, Meta(ge=0, description="Tokens to fine-tune the open model on, all epochs together; 0 does not tune.")
    ] = 0.0
    data_cost: Annotated[float, Meta(ge=0, description="Dollars for collecting and labelling that data.")] = 0.0
    quality: Annotated[
        dict[str, Share], Meta(description="Score of each model on your own questions, from 0 to 1, by its name here.")
    ] = default({})
    quality_needed: Annotated[
        Share | None, Meta(description="Lowest score on your own questions that will do, from 0 to 1.")
    ] = None
    weights: Annotated[
        dict[Literal["cost", "quality", "time", "control", "risk"], Annotated[float, Meta(ge=0)]],
        Meta(description="Swing weights inside the front, any scale; empty lets the cost alone decide."),
    ] = default({})
    pairwise: Annotated[
        dict[str, Positive],
        Meta(description='Instead of weights: how many times more one criterion counts, as "cost/time" = 3.'),
    ] = default({})
    prices: Annotated[
        str, Meta(description="TOML file of your own prices and licences, which go before the published ones.")
    ] = "prices.toml"
    seed: Annotated[int, Meta(ge=0, description="Seed of the futures that are tried.")] = 0


class PromptSettings(Table, frozen=True):
    """Where prompt files lie and which prompt answers."""

    folder: Annotated[str, Meta(description="Folder of prompt files (*.md with front matter).")] = "prompts"
    name: Annotated[str, Meta(description="Prompt that the application answers with.")] = "answer"


class TrainSettings(Table, frozen=True):
    """Defaults of training runs."""

    method: Annotated[Literal["lora", "output-layer", "all-layers"], Meta(description="Training method.")] = "lora"
    base: Annotated[str, Meta(description="Folder of the base model (safetensors and config.json).")] = ""
    validation_share: Annotated[Share, Meta(description="Share of the pairs that is held out.")] = 0.1
    seed: Annotated[int, Meta(description="Seed of every random choice.")] = 0


class RetrieveSettings(Table, frozen=True):
    """How documents become an index and how it is searched."""

    index: Annotated[str, Meta(description="Name of the index that the application answers from.")] = "documents"
    chunker: Annotated[dict[str, Any], Meta(description="Chunker: `kind` and its settings.")] = default(
        {"kind": "recursive", "size": 200}
    )
    embedder: Annotated[
        dict[str, Any],
        Meta(description="Embedder: `kind` and its settings; auto is MiniLM where it is installed, else lexical only."),
    ] = default({"kind": "auto"})
    vectors: Annotated[
        dict[str, Any], Meta(description="Vector store: `kind` and its settings; auto follows the database.")
    ] = default({"kind": "auto"})
    similarity: Annotated[Literal["cosine", "dot", "euclid"], Meta(description="Similarity of vectors.")] = "cosine"
    alpha: Annotated[
        Share | Literal["auto"],
        Meta(description="Weight of the lexical score in the fusion; 1 is lexical only, auto is fitted to each index."),
    ] = 0.45
    cut: Annotated[Share, Meta(description="Passages below this share of the best score are left out.")] = 0.76
    limit: Annotated[int, Meta(ge=1, le=100, description="Most passages to return.")] = 15
    reranker: Annotated[
        dict[str, Any],
        Meta(description="What scores the best hits again: `kind` and its settings; empty for nothing."),
    ] = default({})
    rewriting: Annotated[
        dict[str, Any],
        Meta(description="What rewrites follow-up questions for the search: `engine` and `model`; empty for nothing."),
    ] = default({})
    private_hosts: Annotated[
        list[str],
        Meta(description="Hosts in private networks that documents may be fetched from, as name or name:port."),
    ] = []
    where: Annotated[
        str, Meta(description="Condition on the metadata of documents that every answer keeps to, such as type = pdf.")
    ] = ""


class GuardSettings(Table, frozen=True):
    """Which rails check text before and after the model."""

    before: Annotated[
        list[dict[str, Any]], Meta(description="Rails on what users send: `rail`, `action` and the rail's settings.")
    ] = default(
        [
            {"rail": "length", "action": "block"},
            {"rail": "secrets", "action": "redact"},
            {"rail": "prompt_attack", "action": "block"},
        ]
    )
    after: Annotated[list[dict[str, Any]], Meta(description="Rails on what the model replies.")] = default(
        [{"rail": "personal_data", "action": "redact"}, {"rail": "secrets", "action": "redact"}]
    )
    when_undecided: Annotated[Literal["allow", "block"], Meta(description="What a rail that fails means.")] = "block"
    hold_back: Annotated[
        int, Meta(ge=16, le=4096, description="Characters of a streamed answer that are held back for the rails.")
    ] = 120


class ReleaseSettings(Table, frozen=True):
    """Model and decoding of the next release."""

    engine: Annotated[
        str, Meta(description="Engine to answer with: a name of [engines.NAME] or the embedded extractive engine.")
    ] = "extractive"
    model: Annotated[str, Meta(description="Model name that the engine is asked for.")] = "extractive"
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None, Meta(description="Sampling temperature; 0 is deterministic.")
    ] = 0.0
    top_p: Annotated[Annotated[float, Meta(gt=0, le=1)] | None, Meta(description="Nucleus sampling.")] = None
    max_tokens: Annotated[Count | None, Meta(description="Longest answer, tokens.")] = 512
    seed: Annotated[int | None, Meta(description="Sampling seed, where the engine honours it.")] = 0


class RequirementSettings(Table, frozen=True):
    """One line of the gate's policy."""

    suite: Annotated[str, Meta(description="Suite whose evidence is needed: quality, bias, safety, speed.")]
    measure: Annotated[str, Meta(description="Measure to check; empty asks only that the evidence exists.")] = ""
    at_least: Annotated[float | None, Meta(description="Lowest value that passes.")] = None
    at_most: Annotated[float | None, Meta(description="Highest value that passes.")] = None
    max_age_days: Annotated[Positive | None, Meta(description="Evidence older than this is stale.")] = None


class EvaluateSettings(Table, frozen=True):
    """Which suites run and what the gate asks of them."""

    suites: Annotated[list[str], Meta(description="Suites to run.")] = default(["quality", "bias", "safety", "speed"])
    limit: Annotated[Count | None, Meta(description="Most cases per suite; empty takes all.")] = None
    concurrency: Annotated[int, Meta(ge=1, le=64, description="Cases that run at once.")] = 4
    seed: Annotated[int, Meta(description="Seed of every random choice.")] = 0
    gate: Annotated[list[RequirementSettings], Meta(description="What a release needs before it may go out.")] = []


class ReviewSettings(Table, frozen=True):
    """Who must look before a release goes out."""

    roles: Annotated[list[str], Meta(description="Roles whose sign-off the gate asks for.")] = []
    sample: Annotated[int, Meta(ge=0, description="Answers of each evaluation that are queued for people.")] = 10


class DeploySettings(Table, frozen=True):
    """What the deployment has to hold."""

    target: Annotated[str, Meta(description="Target: process, compose, kubernetes, vllm.")] = "process"
    model: Annotated[str, Meta(description="Catalogue name of the model to size, when it is hosted by us.")] = ""
    hardware: Annotated[
        list[str], Meta(description="Hardware to choose from, by catalogue name; empty tries all.")
    ] = []
    image: Annotated[str, Meta(description="Container image of Slipway in emitted files.")] = "slipway:latest"
    region: Annotated[
        str, Meta(description="Cloud region to plan for, as prices.toml names it; empty takes [decide] residency.")
    ] = ""


class WatchSettings(Table, frozen=True):
    """Sampling, alerts and retention of traces."""

    sample: Annotated[Share, Meta(description="Share of answers that are scored.")] = 0.1
    webhook: Annotated[str, Meta(description="URL that alerts are posted to.")] = ""
    alerts: Annotated[list[str], Meta(description="Conditions such as 'error_rate > 0.05 over 15m'.")] = default(
        ["error_rate > 0.05 over 15m", "unanswered_rate > 0.5 over 60m"]
    )
    quiet_hours: Annotated[str, Meta(description="Hours without notification, UTC, for example 22-07.")] = ""
    projects: Annotated[
        list[str],
        Meta(description="Other projects that senders of traces may name by service.name or x-slipway-project."),
    ] = default([])
    most_waiting_mb: Annotated[
        float,
        Meta(gt=0, description="Megabytes of the journal that may wait for the store before senders are told to wait."),
    ] = 1024.0


class LearnSettings(Table, frozen=True):
    """Where drafts of findings go."""

    drafts: Annotated[str, Meta(description="Folder for drafts.")] = "drafts"


class PrivacySettings(Table, frozen=True):
    """Retention and encryption."""

    keep_days: Annotated[int, Meta(ge=1, description="Days that content of traces is kept.")] = 90
    keep_days_by_kind: Annotated[
        dict[SpanKind, Count],
        Meta(description="Days for traces of one kind, where they differ, such as `chat = 30`."),
    ] = default({})
    master_key: Annotated[
        str, Meta(description="Master key as env:NAME or file:PATH; empty makes one in .slipway/master.key.")
    ] = ""
    store_content: Annotated[bool, Meta(description="Whether traces keep messages and passages (sealed).")] = True


class StoreSettings(Table, frozen=True):
    """The database."""

    url: Annotated[str, Meta(description="SQLAlchemy URL or env:NAME; empty is SQLite in .slipway/store.db.")] = ""


class ServerSettings(Table, frozen=True):
    """The server that carries gateway and pages."""

    host: Annotated[str, Meta(description="Address to bind. Off loopback, keys and sign-in are required.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="Port; 0 takes a free one.")] = 8080
    require_keys: Annotated[
        bool | None, Meta(description="Whether /v1 asks for an API key; empty: only off loopback.")
    ] = None
    max_body_mb: Annotated[float, Meta(gt=0, description="Largest request body, megabytes.")] = 32.0
    bodies_mb: Annotated[
        float, Meta(gt=0, description="Of request bodies that a worker holds at once, megabytes; on top of that, 503.")
    ] = 512.0
    plain_http: Annotated[
        bool, Meta(description="Whether HTTP without TLS is allowed off loopback, for example behind a proxy.")
    ] = False
    tls_certificate: Annotated[
        str, Meta(description="Certificate chain (PEM file) to serve HTTPS with; empty serves plain HTTP.")
    ] = ""
    tls_key: Annotated[str, Meta(description="Private key (PEM file) of the certificate.")] = ""
    otlp_grpc_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port for OTLP over gRPC, usually 4317; 0 is none. Extra `otel`.")
    ] = 0
    journal_mb: Annotated[
        float, Meta(gt=0, description="Megabytes of waiting traces above which they are kept without what was said.")
    ] = 4096.0
    raw_models: Annotated[
        bool, Meta(description="Whether clients may also call a model as engine/model, past every release.")
    ] = False
    allow_origins: Annotated[
        str | list[str],
        Meta(description='Origins of web pages that may call the gateway, or "*" for all; empty: none of other sites.'),
    ] = default([])

    def __post_init__(self) -> None:
        check_origins(self.allow_origins)


class LimitSettings(Table, frozen=True):
    """What one holder may use; empty is without limit. A month is a calendar month in UTC."""

    requests_per_minute: Annotated[Count | None, Meta(description="Most requests in any minute.")] = None
    tokens_per_minute: Annotated[Count | None, Meta(description="Most tokens in any minute.")] = None
    monthly_requests: Annotated[Count | None, Meta(description="Most requests a month.")] = None
    monthly_budget: Annotated[Positive | None, Meta(description="Most dollars a month.")] = None


class LimitsSettings(Table, frozen=True):
    """Limits beside those of API keys, counted by all workers of a server together."""

    person: Annotated[LimitSettings, Meta(description="What each person may use, by the pseudonym in `user`.")] = (
        LimitSettings()
    )
    project: Annotated[LimitSettings, Meta(description="What the whole application may use.")] = LimitSettings()


class CacheSettings(Table, frozen=True):
    """Whether answers are given again to the same question."""

    enabled: Annotated[bool, Meta(description="Whether answers are kept and given again.")] = False
    hours: Annotated[float, Meta(gt=0, description="Hours for which an answer may be given again.")] = 24.0
    entries: Annotated[int, Meta(ge=1, le=1_000_000, description="Most answers that are kept.")] = 10_000
    megabytes: Annotated[float, Meta(gt=0, description="Most memory of each worker for answers, megabytes.")] = 64.0
    shared: Annotated[
        bool,
        Meta(description="Whether people may get answers that were made for others; else each gets only their own."),
    ] = False
    similar: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description="Cosine of two questions from which one's answer is the other's too, for example 0.97; empty: "
            "only to the same question. Needs [retrieve] embedder."
        ),
    ] = None


class PriceSettings(Table, frozen=True):
    """Your own price of a model, in dollars per million tokens; it goes before the price list."""

    input: Annotated[float, Meta(ge=0, description="Dollars per million input tokens.")]
    output: Annotated[float, Meta(ge=0, description="Dollars per million output tokens.")] = 0.0
    cached_input: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="Dollars per million cached input tokens.")
    ] = None


class FallbackSettings(Table, frozen=True):
    """Who answers instead of an engine, a channel or a release, by what went wrong."""

    to: Annotated[
        list[str],
        Meta(
            description="In order: `engine/model`, an engine (for the same model) or a release such as `support@13`; "
            "for every failure without a list of its own, but not for content filters."
        ),
    ] = []
    rate_limit: Annotated[list[str] | None, Meta(description="Instead of `to` after 429, also without quota.")] = None
    timeout: Annotated[list[str] | None, Meta(description="Instead of `to` after a deadline has passed.")] = None
    server_error: Annotated[
        list[str] | None, Meta(description="Instead of `to` after 5xx, garbled answers, refused keys of ours.")
    ] = None
    unreachable: Annotated[list[str] | None, Meta(description="Instead of `to` when nothing answers.")] = None
    content_filter: Annotated[
        list[str] | None, Meta(description="When the engine refuses the text; empty: its refusal is passed on.")
    ] = None


class RoutingSettings(Table, frozen=True):
    """What the gateway does when an engine fails, and what shadows may take."""

    fallback: Annotated[
        dict[str, FallbackSettings],
        Meta(description="Fallbacks by the name of a channel, a release or an engine; the first of these counts."),
    ] = {}
    breaker_failures: Annotated[
        int, Meta(ge=0, description="Failures in a row after which an upstream is left alone; 0 never does.")
    ] = 5
    breaker_s: Annotated[
        float, Meta(gt=0, description="Seconds until one request looks if it is back; doubled up to a minute.")
    ] = 5.0
    retry_share: Annotated[
        Share, Meta(description="Share of the requests that may be repeated at the same engines.")
    ] = 0.2
    shadows: Annotated[int, Meta(ge=0, description="Copies for shadows that run at once, per worker.")] = 16


class UpstreamSettings(Table, frozen=True):
    """How engines are reached over HTTP. Read when a command or a server starts."""

    transport: Annotated[
        Literal["own", "aiohttp"],
        Meta(
            description="Who carries the requests: our own client, or aiohttp (extra `aiohttp`), which knows proxies."
        ),
    ] = "own"
    proxy: Annotated[
        str,
        Meta(
            description="HTTP proxy on the way to engines: http://host:port, or env:NAME where it has a password; "
            'empty for none. Needs transport = "aiohttp".'
        ),
    ] = ""
    direct: Annotated[
        list[str],
        Meta(description="Hosts that are asked past the proxy: names, or ends of names such as .example.org."),
    ] = default(["localhost", "127.0.0.1", "::1"])


class Settings(Table, frozen=True):
    """Everything that slipway.toml may hold."""

    application: ApplicationSettings
    decide: DecideSettings = DecideSettings()
    prompt: PromptSettings = PromptSettings()
    train: TrainSettings = TrainSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    guard: GuardSettings = GuardSettings()
    release: ReleaseSettings = ReleaseSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    review: ReviewSettings = ReviewSettings()
    deploy: DeploySettings = DeploySettings()
    watch: WatchSettings = WatchSettings()
    learn: LearnSettings = LearnSettings()
    privacy: PrivacySettings = PrivacySettings()
    store: StoreSettings = StoreSettings()
    server: ServerSettings = ServerSettings()
    limits: LimitsSettings = LimitsSettings()
    cache: CacheSettings = CacheSettings()
    routing: RoutingSettings = RoutingSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    engines: Annotated[
        dict[str, dict[str, Any]], Meta(description="Engines by name: `kind` and the settings of that backend.")
    ] = {}
    prices: Annotated[
        dict[str, PriceSettings], Meta(description="Your own prices, by engine/model, or by engine for all its models.")
    ] = {}
