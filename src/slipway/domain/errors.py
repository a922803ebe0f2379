"""Every error that Slipway raises on purpose, as one tree: what happened, to which thing, what to do next.

`exit_code` is what the command line ends with: 1 something failed, 2 the input was wrong, 3 a gate is closed.
One file above the usual length, because it is read as a whole: no class is named, coded or worded like another.
"""

import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from slipway.domain.routing import FailureKind


class SlipwayError(Exception):
    """Root of the tree. The message is for the person; the attributes are for programs."""

    exit_code = 1
    http_status = 500
    code = "error"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` or the list of what is known."""
    names = sorted(set(known))
    close = get_close_matches(wrong, names, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(names)}." if names else ""


# Input -----------------------------------------------------------------------------------------------------------


class InputError(SlipwayError):
    """What was given is wrong; nothing was changed."""

    exit_code = 2
    http_status = 400
    code = "invalid_input"


class FileMissing(InputError):
    """A file or folder that was named does not exist."""

    def __init__(self, path: object, *, next_step: str = "Check the path.") -> None:
        self.path = str(path)
        super().__init__(f"There is no file or folder '{path}'. {next_step}")


class FileBroken(InputError):
    """A file exists but cannot be read as what it should be."""

    def __init__(self, path: object, reason: str, *, next_step: str = "Mend the file or leave it out.") -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"'{path}' cannot be read: {reason}. {next_step}")


class NameInvalid(InputError):
    """A name breaks the rule for names."""

    def __init__(self, what: str, name: str) -> None:
        self.name = name
        super().__init__(
            f"'{name}' is not a name for {what}: use lower case letters, digits, '-' and '_', at most 63 characters."
        )


class NotFound(InputError):
    """Something was named that the store does not hold."""

    http_status = 404
    code = "not_found"

    def __init__(self, what: str, name: str, *, known: Sequence[str] = (), next_step: str = "") -> None:
        self.what, self.name = what, name
        super().__init__(
            f"There is no {what} '{name}'.{did_you_mean(name, known)}{' ' + next_step if next_step else ''}"
        )


class Conflict(InputError):
    """The request contradicts what is already there."""

    http_status = 409
    code = "conflict"


# Configuration ---------------------------------------------------------------------------------------------------


class ConfigError(InputError):
    """slipway.toml (or the environment) holds something wrong; the place is named."""

    code = "invalid_config"

    def __init__(self, place: str, reason: str, *, path: object = "slipway.toml") -> None:
        self.place, self.reason, self.path = place, reason, str(path)
        super().__init__(f"{path}: {place}: {reason}" if place else f"{path}: {reason}")


class NotAnApplication(InputError):
    """The folder has no slipway.toml."""

    def __init__(self, folder: object) -> None:
        self.folder = str(folder)
        super().__init__(
            f"'{folder}' holds no slipway.toml. Create one: slipway init {folder} --documents PATH, "
            "or name another folder with --dir."
        )


class SecretMissing(ConfigError):
    """A secret points to an environment variable or file that is not there."""


class UnknownBackend(InputError):
    """A backend was named that no file and no entry point offers."""

    code = "unknown_backend"

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"There is no {kind} backend '{name}'.{did_you_mean(name, known)}")


class BackendSettingInvalid(InputError):
    """A backend got a key it does not know or a value of the wrong type."""

    code = "invalid_config"

    def __init__(self, kind: str, name: str, reason: str) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"Settings of {kind} '{name}': {reason}")


class PackageMissing(SlipwayError):
    """A backend needs a package that is not installed."""

    def __init__(self, what: str, package: str, pip_line: str) -> None:
        self.what, self.package = what, package
        super().__init__(f"{what} needs the package '{package}', which is not installed. Install it: {pip_line}")


# Other machines --------------------------------------------------------------------------------------------------


class UpstreamError(SlipwayError):
    """Another machine could not be asked or did not answer properly. Engines turn these into `EngineError`s."""

    http_status = 502
    code = "upstream_failed"


class ConnectFailed(UpstreamError):
    """No connection: refused, no such host, or a certificate that does not verify."""

    def __init__(self, origin: str, reason: str) -> None:
        self.origin, self.reason = origin, reason
        super().__init__(f"No connection to {origin}: {reason}. Check the address and that the server runs.")


class UpstreamTimeout(UpstreamError):
    """A deadline passed; `phase` says which: connection, first byte, next piece or whole answer."""

    http_status = 504

    def __init__(self, origin: str, phase: str, seconds: float) -> None:
        self.origin, self.phase, self.seconds = origin, phase, seconds
        super().__init__(f"{origin} gave no {phase} within {seconds:g} s. Try again later, or raise the deadline.")


class ConnectionBroken(UpstreamError):
    """The connection ended before the answer was complete. `answered` when a part of it had arrived."""

    def __init__(self, origin: str, reason: str, *, answered: bool) -> None:
        self.origin, self.reason, self.answered = origin, reason, answered
        super().__init__(f"{origin} broke off: {reason}. Try again.")


class ResponseGarbled(UpstreamError):
    """What came back is not HTTP."""

    def __init__(self, origin: str, reason: str) -> None:
        self.origin, self.reason = origin, reason
        super().__init__(f"{origin} does not answer in HTTP: {reason}. Check the address and port.")


class ResponseTooLarge(UpstreamError):
    """The answer is larger than the caller allowed."""

    def __init__(self, origin: str, limit: int) -> None:
        self.origin, self.limit = origin, limit
        super().__init__(f"The answer of {origin} is larger than {limit} bytes; the rest was not read. Ask for less.")


# Engines and models ----------------------------------------------------------------------------------------------


class EngineError(SlipwayError):
    """An engine could not do what it was asked. `retryable` when another try may help."""

    http_status = 502
    code = "engine_failed"
    retryable = False


class EngineUnreachable(EngineError):
    """Nothing answers at the engine's address."""

    code = "engine_unreachable"
    retryable = True

    def __init__(self, engine: str, url: str, reason: str) -> None:
        self.engine, self.url = engine, url
        super().__init__(
            f"Engine '{engine}' cannot be reached at {url}: {reason}. "
            f"Start it, or correct base_url in [engines.{engine}]."
        )


class EngineTimeout(EngineError):
    """An engine did not answer within its deadline."""

    http_status = 504
    code = "engine_timeout"
    retryable = True

    def __init__(self, engine: str, phase: str, seconds: float) -> None:
        self.engine, self.phase, self.seconds = engine, phase, seconds
        super().__init__(f"Engine '{engine}' gave no {phase} within {seconds:g} s. Try again, or raise its timeout.")


OUR_ACCOUNT = frozenset({401, 402, 403, 407})
"""An engine refused our own key or account: no fault of the client's."""


class EngineRefused(EngineError):
    """An engine answered with an error status; `status` and `body` are what it said."""

    code = "engine_refused"

    def __init__(self, engine: str, status: int, body: str, *, retry_after_s: float | None = None) -> None:
        self.engine, self.status, self.body, self.retry_after_s = engine, status, body, retry_after_s
        self.retryable = status in (408, 429) or status >= 500
        self.http_status = status if 400 <= status < 500 and status not in OUR_ACCOUNT else 502
        super().__init__(f"Engine '{engine}' answered {status}: {body[:300]}")


class EngineResting(EngineError):
    """An engine is left alone for a while, since it failed too often; `kind` is what its last failure was."""

    http_status = 503
    code = "engine_resting"

    def __init__(self, engine: str, address: str, *, retry_after_s: float, kind: FailureKind, reason: str) -> None:
        self.engine, self.address, self.retry_after_s, self.kind = engine, address, retry_after_s, kind
        super().__init__(
            f"Engine '{engine}' at {address} keeps failing and is not asked for {max(retry_after_s, 0.1):.1f} s. "
            f"Its last failure: {reason}"
        )


class EngineGarbled(EngineError):
    """An engine's answer cannot be understood, or it stopped in the middle."""

    code = "engine_garbled"
    retryable = True

    def __init__(self, engine: str, reason: str) -> None:
        self.engine = engine
        super().__init__(f"Engine '{engine}' sent an answer that cannot be used: {reason}.")


class WeightsInvalid(SlipwayError):
    """Model weights do not have the digest that was pinned."""

    def __init__(self, path: object, expected: str, found: str) -> None:
        self.path, self.expected, self.found = str(path), expected, found
        super().__init__(
            f"'{path}' has sha256 {found[:12]}…, expected {expected[:12]}…. "
            "It is not used; install the original file again."
        )


# Store -----------------------------------------------------------------------------------------------------------


class StoreError(SlipwayError):
    """The store could not do what it was asked; nothing was half-written."""

    http_status = 503
    code = "store_failed"


class StoreUnavailable(StoreError):
    """The database cannot be opened, is locked for too long, or its disk is full."""

    def __init__(self, url: str, reason: str, *, next_step: str) -> None:
        self.url = url
        super().__init__(f"The store at {url} is not available: {reason}. {next_step}")


class StoreTooNew(StoreError):
    """The database was written by a newer Slipway."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(f"The store at {url} has schema {found}, which this version does not know. Upgrade slipway.")


class ContentErased(StoreError):
    """Content belonged to a person whose key was erased."""

    http_status = 410
    code = "erased"

    def __init__(self, kind: str, id: str) -> None:
        self.kind, self.id = kind, id
        super().__init__(f"The content of {kind} '{id}' was erased with the person it was about.")


class MasterKeyWrong(StoreError):
    """The master key does not open the data keys of this store."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"The master key from {source} does not open this store. Give the key that the store was created with."
        )


class MasterKeyInvalid(StoreError):
    """The master key is not 64 hexadecimal digits."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__("A master key is 64 hexadecimal digits (32 bytes). Make one: openssl rand -hex 32")


class ContentDamaged(StoreError):
    """Sealed content was changed or moved since it was written."""

    http_status = 500

    def __init__(self, kind: str, id: str) -> None:
        self.kind, self.id = kind, id
        super().__init__(
            f"The content of {kind} '{id}' was changed outside Slipway and cannot be opened. Restore it from a backup."
        )


class QueryInvalid(InputError):
    """A filter over traces cannot be understood; the place is named."""

    code = "invalid_query"

    def __init__(self, query: str, position: int, reason: str) -> None:
        self.query, self.position, self.reason = query, position, reason
        near = query[position : position + 20]
        super().__init__(
            f"The filter cannot be understood at character {position + 1} ('{near}'): {reason} "
            'Example: model = "small" and latency > 2s and not status = ok'
        )


class WhereInvalid(InputError):
    """A condition on the metadata of documents cannot be understood; the place is named."""

    code = "invalid_where"

    def __init__(self, text: str, position: int, reason: str) -> None:
        self.text, self.position, self.reason = text, position, reason
        near = text[position : position + 20]
        super().__init__(
            f"The condition cannot be understood at character {position + 1} ('{near}'): {reason} "
            'Example: type = pdf and folder = "hr" and not date < 2026-01-01'
        )


class ErasureBusy(StoreError):
    """A person cannot be erased while another process holds the journal."""

    http_status = 409

    def __init__(self) -> None:
        super().__init__(
            "Nothing was erased: another process has been reading the journal all the time. Run the command again."
        )


class OtlpRefused(InputError):
    """A body of spans that cannot be used at all."""

    code = "otlp_refused"

    def __init__(self, reason: str, *, http_status: int) -> None:
        self.reason, self.http_status = reason, http_status
        super().__init__(f"These spans were not taken: {reason}.")


# Prompt ----------------------------------------------------------------------------------------------------------


class PromptInvalid(InputError):
    """A prompt or its template holds something that is not allowed; the place is named."""

    code = "invalid_prompt"

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(f"{place}: {reason}.")


class VariablesMissing(InputError):
    """A prompt was rendered without a variable that its template reads."""

    code = "missing_variable"

    def __init__(self, prompt: str, names: Sequence[str]) -> None:
        self.prompt, self.names = prompt, tuple(names)
        super().__init__(
            f"Prompt '{prompt}' needs {', '.join(names)}, which was not given. "
            "Give a value, or make the place optional: "
            f"{{% if {names[0]} is defined %}} … {{% endif %}}"
        )


class TemplateTooBig(InputError):
    """A template would grow beyond its limit of characters, steps or time; nothing of it was sent."""

    code = "invalid_prompt"

    def __init__(self, prompt: str, limit: str) -> None:
        self.prompt, self.limit = prompt, limit
        super().__init__(f"Prompt '{prompt}' was stopped while its template was filled: more than {limit}. Shorten it.")


class NothingToIndex(InputError):
    """None of the files that were named holds readable text."""

    def __init__(self, index: str, *, files: int, examples: Sequence[str] = ()) -> None:
        self.index, self.files, self.examples = index, files, tuple(examples)
        why = "There are no files." if not files else f"{files} files cannot be read: {'; '.join(examples)}."
        super().__init__(
            f"Index '{index}' was not built, because no document was found. {why} "
            f"Name a folder or file with text: slipway retrieve build {index} --documents PATH"
        )


class NoClearDifference(InputError):
    """The best setting of a comparison is not clearly better than the one there is, so it was not applied."""

    def __init__(self, verdict: str) -> None:
        super().__init__(f"slipway.toml was not changed. {verdict} To set it all the same: --apply --force")


class EmbedderChanged(SlipwayError):
    """An index was built with another embedder than the one that is there now."""

    def __init__(self, index: str, *, built_with: str, there: str) -> None:
        self.index, self.built_with, self.there = index, built_with, there
        super().__init__(
            f"Index '{index}' was built with the embedder '{built_with}', but {there or 'none'} is there now. "
            "Install it again (slipway doctor), or rebuild the index: slipway retrieve build"
        )


# Guard -----------------------------------------------------------------------------------------------------------


class Blocked(SlipwayError):
    """A guardrail stopped a request or an answer."""

    http_status = 400
    code = "content_filter"

    def __init__(self, rail: str, stage: str, reason: str) -> None:
        self.rail, self.stage, self.reason = rail, stage, reason
        super().__init__(f"Guardrail '{rail}' stopped the {stage}: {reason}")


# Release ---------------------------------------------------------------------------------------------------------


class GateClosed(SlipwayError):
    """A release may not go out yet; the failing checks are listed with their remedies."""

    exit_code = 3
    http_status = 409
    code = "gate_closed"

    def __init__(self, release: str, reasons: Sequence[str]) -> None:
        self.release, self.reasons = release, tuple(reasons)
        super().__init__(f"The gate of {release} is closed: " + "; ".join(reasons))


# Gateway ---------------------------------------------------------------------------------------------------------


class RequestInvalid(InputError):
    """A client's request is not what the API takes; `param` names the field."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


class PreviousUnknown(RequestInvalid):
    """A request leans on a response that its key did not get."""

    code = "previous_response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"There is no previous response '{shortened_id(id)}' of this key: send the id of an answer that it got, or "
            "the whole input.",
            param="previous_response_id",
        )


class ItemUnknown(RequestInvalid):
    """A request refers to a kept item that its key did not get."""

    code = "item_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"There is no item '{shortened_id(id)}' of this key to refer to: send the id of one that it got, or the "
            "item itself.",
            param="input",
        )


class ResponseUnknown(InputError):
    """A kept response is asked for that the key did not get."""

    http_status = 404
    code = "response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"There is no response '{shortened_id(id)}' of this key: send the id of an answer that it got."
        )


def shortened_id(id: str) -> str:
    return id if len(id) <= 80 else f"{id[:79]}…"


class RequestTooLarge(InputError):
    """A request's body is larger than the server takes."""

    http_status = 413
    code = "request_too_large"

    def __init__(self, limit_mb: float) -> None:
        self.limit_mb = limit_mb
        super().__init__(
            f"The body of the request is larger than {limit_mb:g} MB. Send less, or raise [server] max_body_mb."
        )


class BodiesTooMany(SlipwayError):
    """A worker holds as many bytes of requests as it may."""

    http_status = 503
    code = "overloaded"

    def __init__(self, most_mb: float) -> None:
        self.most_mb = most_mb
        super().__init__(
            f"The requests that are being answered hold {most_mb:g} MB already. Ask again soon, start more workers, or "
            "raise [server] bodies_mb."
        )


class ReleaseUnavailable(SlipwayError):
    """A release is known but cannot answer on this server: its engine, index or prompt is missing here."""

    http_status = 503
    code = "release_unavailable"

    def __init__(self, release: str, reason: str) -> None:
        self.release, self.reason = release, reason
        super().__init__(f"Release {release} cannot answer here: {reason}")


class ModelNotFound(NotFound):
    """A client asked for a model that no channel, release or engine answers to."""

    code = "model_not_found"
    param = "model"

    def __init__(self, name: str, *, known: Sequence[str], next_step: str) -> None:
        super().__init__("model", name, known=known, next_step=next_step)


# Evaluate and review ---------------------------------------------------------------------------------------------


class DatasetRowInvalid(InputError):
    """A row of a dataset's file is not a case; nothing of the file was imported."""

    def __init__(self, path: object, line: int, reason: str) -> None:
        self.path, self.line, self.reason = str(path), line, reason
        super().__init__(f"'{path}', line {line}: {reason}. Mend this line; nothing was imported.")


class DatasetEmpty(InputError):
    """Nothing is there to make a dataset of, or a suite found no case that it could ask."""

    def __init__(self, what: str, *, next_step: str) -> None:
        super().__init__(f"{what} holds no questions. {next_step}")


class EvaluationStopped(SlipwayError):
    """An evaluation ended early because the engine fails; the finished cases are kept."""

    http_status = 502
    code = "evaluation_stopped"

    def __init__(self, suite: str, release: str, *, done: int, total: int, reason: str) -> None:
        self.suite, self.release, self.done, self.total, self.reason = suite, release, done, total, reason
        super().__init__(
            f"The suite '{suite}' of {release} stopped: {reason} {done} of {total} cases are finished and kept; "
            f"continue with: slipway evaluate run {release} --suite {suite}"
        )


class NotComparable(InputError):
    """Two releases have no evaluation over the same cases."""

    code = "not_comparable"

    def __init__(self, before: str, after: str, suite: str, reason: str) -> None:
        self.before, self.after, self.suite = before, after, suite
        super().__init__(
            f"{before} and {after} cannot be compared: {reason}. Run the suite '{suite}' for both over the same "
            f"dataset: slipway evaluate run {before} --suite {suite}, then the same for {after}"
        )


class RoleUnknown(InputError):
    """A sign-off was given for a role that slipway.toml does not name."""

    def __init__(self, role: str, known: Sequence[str]) -> None:
        self.role, self.known = role, tuple(known)
        hint = did_you_mean(role, known) if known else ""
        super().__init__(f"[review] roles in slipway.toml does not name '{role}'.{hint} Add it there to ask for it.")


class ReviewInvalid(InputError):
    """A rating, a name or a background of a review is not usable."""


class ForeignSite(SlipwayError):
    """A web page of another site called a server that asks nobody for a key."""

    http_status = 403
    code = "foreign_site"

    def __init__(self, site: str) -> None:
        self.site = site
        super().__init__(
            f"This call came from the web page of '{site}'. Without keys, only programs of this machine are answered. "
            "Ask for keys: [server] require_keys = true; or name its origin in [server] allow_origins"
        )


class OriginNotAllowed(SlipwayError):
    """A browser asked whether a web page of another site may call the gateway."""

    http_status = 403
    code = "origin_not_allowed"

    def __init__(self, origin: str) -> None:
        self.origin = origin
        super().__init__(f"Web pages of '{origin}' may not call here. Name their origin in [server] allow_origins")


class AddressTaken(SlipwayError):
    """The server cannot listen where it should."""

    code = "address_taken"

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port = host, port
        super().__init__(
            f"Cannot listen on {host} port {port}: {reason}. Stop the other program, or take a free port: --port 0"
        )


class UnsafeAddress(InputError):
    """Plain HTTP was asked for where others can listen."""

    code = "unsafe_address"

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"Plain HTTP on {host} would show keys and answers to the network. Give [server] tls_certificate and "
            "tls_key, or, behind a proxy that ends TLS, say so: --plain-http"
        )


# Access ----------------------------------------------------------------------------------------------------------


class AccessDenied(SlipwayError):
    """The key is missing, unknown, expired or lacks the scope."""

    http_status = 401
    code = "invalid_api_key"


class ScopeMissing(AccessDenied):
    """The key is good, but not for this."""

    http_status = 403
    code = "insufficient_scope"

    def __init__(self, key: str, scope: str) -> None:
        self.key, self.scope = key, scope
        super().__init__(
            f"The API key '{key}' lacks the scope '{scope}'. "
            f"Make one that has it: slipway keys create NAME --scope {scope}"
        )


class ModelNotAllowed(AccessDenied):
    """The key is good, but not for this model."""

    http_status = 403
    code = "model_not_allowed"

    def __init__(self, key: str, model: str, allowed: Sequence[str]) -> None:
        self.key, self.model = key, model
        super().__init__(
            f"The API key '{key}' may not call '{model}', only {', '.join(allowed)}. "
            f"Let it: slipway keys models {key} {shlex.join((*allowed, model))}"
        )


class RoleMissing(AccessDenied):
    """Somebody is signed in, but the role does not allow this."""

    http_status = 403
    code = "insufficient_role"

    def __init__(self, action: str, role: str, needed: str) -> None:
        self.action, self.role, self.needed = action, role, needed
        super().__init__(f"'{action}' needs the role {needed}; this is {role}. Ask an admin of the project.")


class OverLimit(SlipwayError):
    """A key, a person or the project has used up its requests, tokens or budget."""

    http_status = 429
    code = "rate_limit_exceeded"

    def __init__(self, what: str, *, retry_after_s: float, why: str = "is used up") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{what} {why}. Try again in {retry_after_s:.0f} s.")


# Decide and deploy -----------------------------------------------------------------------------------------------


class TrafficTooLittle(InputError):
    """Stored traffic is to stand for a demand, but there is too little of it."""

    code = "too_little_traffic"

    def __init__(self, found: int, *, needed: int) -> None:
        self.found, self.needed = found, needed
        super().__init__(
            f"{found} requests of users with counted tokens are stored for this time; a demand needs {needed}. "
            "Look further back with --since, or answer [decide] by hand: slipway decide ask"
        )


class NothingToReplay(InputError):
    """A trace holds no request that a release could answer."""

    code = "nothing_to_replay"

    def __init__(self, trace: str) -> None:
        self.trace = trace
        super().__init__(
            f"Trace '{trace}' holds no question and no message of a user, so nothing can be asked again. "
            "Its content may have been left out when it was recorded ([watch] content)."
        )


class RequirementMissing(InputError):
    """A decision or plan needs an answer that was not given."""

    def __init__(self, fields: Sequence[str], *, table: str) -> None:
        self.fields = tuple(fields)
        super().__init__(f"[{table}] in slipway.toml lacks: {', '.join(fields)}. Add them, or run: slipway {table} ask")


class RequirementContradiction(InputError):
    """Two requirements exclude each other."""


class NothingMeets(SlipwayError):
    """No option or plan meets the requirement; the nearest misses are named."""

    exit_code = 3
    http_status = 409
    code = "nothing_meets"


class RowUnusable(InputError):
    """A row of measured or asked-for points says too little or names something unknown."""

    def __init__(self, row: str, why: str) -> None:
        self.row, self.why = row, why
        super().__init__(f"{row}: {why}")


class ModelNotPlanned(InputError):
    """Files for a model server were asked for, but the plan hosts no model."""

    def __init__(self, application: str) -> None:
        self.application = application
        super().__init__(
            f"The plan of '{application}' hosts no model. Plan one: slipway deploy plan --model llama-3.1-8b, "
            "or name it in [deploy] model."
        )


class DeploymentInvalid(SlipwayError):
    """Deployment files would be refused where they are meant to run; every problem is listed."""

    code = "deployment_invalid"

    def __init__(self, target: str, problems: Sequence[str]) -> None:
        self.target, self.problems = target, tuple(problems)
        super().__init__(f"Files for {target} are not valid: " + "; ".join(problems))


# Train -----------------------------------------------------------------------------------------------------------


class DataNotReady(SlipwayError):
    """The data report advises against training; its reasons are listed."""

    exit_code = 3
    http_status = 409
    code = "data_not_ready"

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(
            f"The training data is not ready: {'; '.join(reasons)}. See it: slipway train report; "
            "or train all the same with --force."
        )


class ModelUnfit(InputError):
    """A model cannot be trained or read as it is."""

    def __init__(self, model: str, reason: str) -> None:
        self.model, self.reason = model, reason
        super().__init__(f"The model '{model}' cannot be used: {reason}.")


class TrainingDiverged(SlipwayError):
    """The loss of a training run is no number any more."""

    code = "training_diverged"

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"The loss of step {step} is no number. Train again with a smaller --rate.")


class MergeDiffers(SlipwayError):
    """Merging an adapter into its base changed what the model says."""

    code = "merge_differs"

    def __init__(self, difference: float, limit: float) -> None:
        self.difference, self.limit = difference, limit
        super().__init__(
            f"The merged model differs from base and adapter by {difference:.1e} in a logit (limit {limit:.0e}). "
            "The adapter is kept; train with --set merge=false and serve it as an adapter."
        )


# Jobs ------------------------------------------------------------------------------------------------------------


class JobCancelled(SlipwayError):
    """A job was stopped on request; what it finished is kept and a new start resumes it."""


class JobLost(SlipwayError):
    """A worker held a job longer than its lease, and another worker has it now."""

    http_status = 409

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"Job {job} was taken over by another worker when its lease ran out. Leave it to that one.")


class DiskFull(SlipwayError):
    """A write failed because the disk is full; the file it would have replaced is unchanged."""

    def __init__(self, path: object) -> None:
        self.path = str(path)
        super().__init__(f"'{path}' could not be written: the disk is full. Free some space and run the command again.")
