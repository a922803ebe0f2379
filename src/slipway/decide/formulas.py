"""The formula of each kind of published cost figure, over inputs as publications write them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from slipway.decide.assumptions import Assumptions
from slipway.decide.costs import (
    api_cost,
    break_even_per_hour,
    development_shares,
    device_cost,
    own_break_even_hours,
    own_monthly,
    yearly_factor,
)
from slipway.decide.serving import best_rate, published_rates
from slipway.domain.architecture import Architecture
from slipway.domain.errors import NotFound
from slipway.domain.hardware import Hardware
from slipway.domain.model import Price
from slipway.models.catalog import BATCH_FACTOR, BATCH_SELLERS, batch_factor_of
from slipway.models.hardware import list_prices, purchase_of, rent_of
from slipway.models.memory import GIB, kv_bytes
from slipway.models.published import file_bits, find_published_hardware, find_published_model
from slipway.models.sizing import HOURS_A_MONTH, Load
from slipway.models.training import pretraining_hours, training_flop

Figure = float | tuple[float, ...] | dict[str, float]
HOURS = {"hour": 1.0, "day": 24.0, "week": 168.0, "month": HOURS_A_MONTH, "year": 12 * HOURS_A_MONTH}
BYTES = {"gib": GIB, "gb": 1e9, "mib": 2**20, "mb": 1e6, "kib": 1024, "kb": 1e3, "tib": 2**40, "tb": 1e12}
TUNING_BYTES = {"full": 12.0, "mixed": 16.0, "lora": 2.0, "qlora": 0.52}
"""Bytes a parameter: weights and gradients in 16 bits and Adam's two moments (12), a 32-bit copy besides (16), frozen
16-bit weights, frozen weights in NF4 with their scales. Source: QLoRA (2023), ZeRO (2020)."""
ADAPTER_SHARE, ADAPTER_BYTES = 0.002, 16.0
"""Trained weights of an adapter over all weights, and what each takes with its optimiser."""
MLPERF_INPUT, MLPERF_OUTPUT, MLPERF_CONTEXT = 294, 292, 2048
"""Mean lengths of the OpenOrca questions that MLPerf asks Llama-2-70B, and their longest."""


class CaseLacks(Exception):
    """A case does not say what its formula needs."""

    def __init__(self, *names: str) -> None:
        super().__init__(f"its inputs lack {' or '.join(names)}")


@dataclass(slots=True, kw_only=True)
class Inputs:
    """The inputs of a case, with its unit and question; `published` is the number of figures that it states."""

    given: Mapping[str, Any]
    unit: str = ""
    question: str = ""
    published: int = 1
    remark: str = field(default="")

    def has(self, *names: str) -> bool:
        return any(self.given.get(name) is not None for name in names)

    def number(self, *names: str, default: float | None = None) -> float:
        """The first of these names that is there. Raises `CaseLacks`, or `ValueError` for what is no number."""
        for name in names:
            value = self.given.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} = {value!r} is no number")
            if value < 0:
                raise ValueError(f"{name} = {value} is below zero")
            return float(value)
        if default is None:
            raise CaseLacks(*names)
        return default

    def text(self, *names: str) -> str:
        for name in names:
            if self.given.get(name) is not None:
                return str(self.given[name])
        raise CaseLacks(*names)

    def per_million(self, what: str, *, default: float | None = None) -> float:
        """Dollars a million tokens, from a price a token, a thousand or a million."""
        for scale, names in (
            (1.0, ("m", "million", "1m", "mtok")),
            (1e3, ("1k", "k", "thousand")),
            (1e6, ("token", "1")),
        ):
            for name in names:
                key = f"usd_per_{name}_{what}" if what else f"usd_per_{name}"
                for each in (key, f"{key}_tokens", *(() if what else (f"usd_per_{name}_tokens",))):
                    if self.has(each):
                        return self.number(each) * scale
        if default is None:
            raise CaseLacks(
                f"usd_per_m_{what}" if what else "usd_per_m", f"usd_per_1k_{what}" if what else "usd_per_1k"
            )
        return default

    def period_hours(self, usual: str = "day") -> float:
        """Hours of the period in the unit, as in USD/day."""
        words = self.unit.lower()
        for name, hours in HOURS.items():
            if re.search(rf"(/|per |a )\s*{name}", words):
                return hours
        return HOURS[usual]

    def model(self) -> Architecture:
        return find_published_model(self.text("model"))

    def parameters(self, *, active: bool = False) -> float:
        names = ("active_params", "params", "parameters") if active else ("params", "parameters", "total_params")
        if self.has(*names):
            return self.number(*names)
        if self.has("params_billions", "params_b"):
            return self.number("params_billions", "params_b") * 1e9
        if self.has("model"):
            return float(self.model().active_parameters if active else self.model().parameters)
        raise CaseLacks(*names, "model")

    def hardware(self) -> Hardware:
        return find_published_hardware(self.text("gpu", "hardware", "accelerator"))

    def devices(self) -> float:
        if self.has("nodes", "nodes_mean"):
            return self.number("nodes_mean", "nodes") * self.number("gpus_per_node", default=8)
        return self.number("gpus", "gpus_mean", "devices", "n_gpus", "gpu_count", default=1)

    def device_hours(self) -> float:
        """Device hours that are stated, or devices x time."""
        if self.has("gpu_hours", "device_hours"):
            return self.number("gpu_hours", "device_hours")
        for name, hours in HOURS.items():
            if self.has(f"{name}s", f"{name}s_of_training"):
                return self.devices() * self.number(f"{name}s", f"{name}s_of_training") * hours
        if self.has("tokens") and self.has("gpu", "hardware"):
            return pretraining_hours(self.parameters(active=True), self.number("tokens"), self.hardware())
        raise CaseLacks("gpu_hours", "gpus and days or hours", "active_params, tokens and gpu")

    def hourly(self) -> float:
        """The price of a device hour that is stated, else the dated median rent of the accelerator."""
        if self.has("usd_per_gpu_hour", "usd_per_device_hour", "gpu_hourly"):
            return self.number("usd_per_gpu_hour", "usd_per_device_hour", "gpu_hourly")
        if self.has("usd_per_node_hour"):
            return self.number("usd_per_node_hour") / self.number("gpus_per_node", default=8)
        if not self.has("gpu", "hardware"):
            raise CaseLacks("usd_per_gpu_hour")
        rent = rent_of(self.hardware().name)
        if rent is None:
            raise CaseLacks(f"usd_per_gpu_hour (no rent of {self.hardware().name} is known)")
        self.remark = f"at ${rent.hourly:.2f} an hour, {rent.source}, {rent.as_of}"
        return rent.hourly


def _price(inputs: Inputs) -> Price:
    both = inputs.per_million("", default=-1.0)
    usual = None if both < 0 else both
    cached = inputs.per_million("cached", default=-1.0)
    cached = inputs.per_million("cached_input", default=-1.0) if cached < 0 else cached
    return Price(
        input_per_million=inputs.per_million("input", default=usual),
        output_per_million=inputs.per_million("output", default=usual),
        cached_input_per_million=None if cached < 0 else cached,
        source="case",
        as_of=date.min,
    )


def _requests_an_hour(inputs: Inputs) -> float | None:
    for name, hours in HOURS.items():
        for each in (f"requests_per_{name}", f"documents_per_{name}", f"queries_per_{name}"):
            if inputs.has(each):
                return inputs.number(each) / hours
    return inputs.number("requests_per_second") * 3600 if inputs.has("requests_per_second") else None


def _api(inputs: Inputs) -> float:
    """The price of all tokens over the period of the unit; without a rate, of the tokens that are stated."""
    rate = _requests_an_hour(inputs)
    requests = inputs.number("requests", "documents", default=1) if rate is None else rate * inputs.period_hours()
    tokens = inputs.number("input_tokens", "prompt_tokens", default=0), inputs.number("output_tokens", default=0)
    if not any(tokens):
        raise CaseLacks("input_tokens", "output_tokens")
    cached = inputs.number("cached_input_tokens", default=0.0) / tokens[0] if tokens[0] else 0.0
    if cached > 1:
        raise ValueError("cached_input_tokens are more than input_tokens")
    tier = BATCH_FACTOR if inputs.given.get("batch") is True else 1.0
    share = inputs.number("cached_share", "cache_hit_share", default=cached)
    return api_cost(requests, *tokens, _price(inputs), cached_share=share, tier=inputs.number("tier", default=tier))


def _gpu(inputs: Inputs) -> float:
    hours = inputs.number("hours", default=inputs.period_hours())
    return device_cost(inputs.devices(), hours, inputs.hourly())


def _trend(inputs: Inputs) -> float:
    start = inputs.number("usd_per_m_start", "usd_start", "price_start", "start")
    end = inputs.number("usd_per_m_end", "usd_end", "price_end", "end")
    years = inputs.number("years", default=-1) if inputs.has("years") else inputs.number("months") / 12
    if "%" in inputs.unit:
        return 100 * (1 - 1 / yearly_factor(start, end, years))
    return yearly_factor(start, end, years) if "year" in inputs.unit or not inputs.unit else start / end


def _break_even(inputs: Inputs) -> float:
    """Requests, or tokens, of the unit's period at which hosting costs what an API does."""
    if inputs.has("usd_per_hour", "usd_per_month", "usd_per_day"):
        period = next(name for name in ("hour", "day", "month") if inputs.has(f"usd_per_{name}"))
        hourly = inputs.number(f"usd_per_{period}") / HOURS[period]
    else:
        hourly = inputs.devices() * inputs.hourly()
    if inputs.has("usd_per_api_request", "usd_per_request"):
        each = inputs.number("usd_per_api_request", "usd_per_request")
    elif "token" in inputs.unit.lower():
        each = _price(inputs).input_per_million / 1e6
    else:
        each = _api(Inputs(given={"requests": 1, **inputs.given}))
    # The cost of serving one more request, where the source counts it.
    each -= inputs.number("usd_per_own_request", default=0.0)
    scale = 1e6 if re.search(r"\b(m|million)\b", inputs.unit.lower()) else 1.0
    return break_even_per_hour(hourly, each) * inputs.period_hours("hour") / scale


def _own_break_even(inputs: Inputs) -> float:
    own = inputs.number("on_prem_usd_per_hour", "own_usd_per_hour", "opex_usd_per_hour", default=0.0)
    cloud = inputs.number("cloud_usd_per_hour", "cloud_hourly")
    hours = own_break_even_hours(inputs.number("capex_usd", "purchase_usd", "capex"), own, cloud)
    if hours is None:
        raise ValueError("the cloud costs no more than running the own machine: there is no break-even")
    unit = next((name for name in ("day", "week", "month", "year") if name in inputs.unit.lower()), "hour")
    use = inputs.number("utilisation", "utilization", default=1.0)
    return hours / use / HOURS[unit]


def _training(inputs: Inputs) -> float:
    return device_cost(1, inputs.device_hours(), inputs.hourly()) + inputs.number("data_usd", default=0.0)


def _run(inputs: Inputs) -> float:
    """A whole run by 6ND at the share of speed that runs reach, on own machines written off over three years."""
    given = Assumptions()
    hardware = inputs.hardware()
    hours = inputs.device_hours()
    bought = purchase_of(hardware.name)
    if inputs.has("usd_per_gpu_hour") or bought is None or bought.purchase is None:
        return device_cost(1, hours, inputs.hourly())
    monthly = bought.purchase * given.rack_factor / 36
    monthly += own_monthly(
        1, watts=hardware.watts, pue=given.pue, kwh=given.kwh, kw_space=given.kw_space, hours=HOURS_A_MONTH
    )
    inputs.remark = f"{hours:,.0f} device hours at ${monthly / HOURS_A_MONTH:.2f} on own machines"
    return device_cost(1, hours, monthly / HOURS_A_MONTH)


def _weights(inputs: Inputs) -> float:
    shape = inputs.model() if inputs.has("model") else None
    bits = inputs.number("bits", "bits_per_weight", default=0.0)
    if not bits:
        bits = file_bits(inputs.text("quant", "quantisation", "quantization", "precision", "dtype"), shape)
    return inputs.parameters() * bits / 8 / _byte_unit(inputs, GIB)


def _cache(inputs: Inputs) -> float:
    """Bytes of keys and values a token; of `tokens` x `batch` tokens where they are stated."""
    each = inputs.number("bytes", "bytes_per_element", default=0.0) or inputs.number("bits", default=16.0) / 8
    tokens = inputs.number("tokens", "context_tokens", "sequence_length", "context", default=1.0)
    sequences = inputs.number("batch", "sequences", "concurrency", default=1.0)
    if inputs.has("layers"):
        if inputs.has("latent_rank", "kv_lora_rank"):
            width = inputs.number("latent_rank", "kv_lora_rank") + inputs.number("rope_dim", default=64.0)
        else:
            width = 2 * inputs.number("kv_heads", "heads") * inputs.number("head_dim")
        total = inputs.number("layers") * width * each * tokens
    else:
        total = kv_bytes(inputs.model(), tokens, bytes_each=each)
    return total * sequences / _byte_unit(inputs, 1.0)


def _tuning_memory(inputs: Inputs) -> float:
    parameters = inputs.parameters()
    method = str(inputs.given.get("method", "full")).lower().replace("-", "").replace(" ", "")
    if method not in TUNING_BYTES:
        raise NotFound("tuning method", method, known=list(TUNING_BYTES))
    if method == "full" and "adam" in str(inputs.given.get("optimizer", inputs.given.get("optimiser", ""))).lower():
        method = "mixed"
    bits = inputs.number("bits", default=0.0)
    each = inputs.number("bytes_per_param", default=0.0) or TUNING_BYTES[method]
    if bits and method in ("lora", "qlora"):
        each = bits / 8
    adapter = ADAPTER_SHARE * ADAPTER_BYTES if method in ("lora", "qlora") else 0.0
    return parameters * (each + adapter) / _byte_unit(inputs, 1e9)


def _finetune_api(inputs: Inputs) -> float:
    tokens = inputs.number("training_file_tokens", "training_tokens", "tokens")
    price = inputs.per_million("training", default=inputs.per_million("", default=-1.0))
    if price < 0:
        raise CaseLacks("usd_per_1k", "usd_per_m")
    return tokens * inputs.number("epochs", default=1.0) * price / 1e6


def _batch(inputs: Inputs) -> float:
    if inputs.has("usd_per_m_batch") and inputs.has("usd_per_m"):
        return inputs.number("usd_per_m_batch") / inputs.number("usd_per_m")
    provider = inputs.text("provider").lower()
    factor = batch_factor_of(provider)
    if factor is None:
        raise NotFound("batch price of", provider, known=sorted(BATCH_SELLERS))
    return 100 * (1 - factor) if "%" in inputs.unit else factor


def _gpu_price(inputs: Inputs) -> Figure:
    """The dated rents of one seller: on demand, and for one and three years where so many figures are stated."""
    asked = " ".join(
        [inputs.question, *(str(inputs.given.get(k, "")) for k in ("vendor", "provider", "seller", "gpu"))]
    )
    hardware = inputs.hardware().name if inputs.has("gpu", "hardware") else find_published_hardware(asked).name
    small = re.search(r"40\s?-?gb", asked.lower()) is not None and hardware == "a100-sxm"
    sellers = {one.seller for one in list_prices() if one.on_demand is not None}
    said = asked.lower()
    named = [s for s in sellers if s.lower() in said or any(word in said.split() for word in SHORT.get(s, ()))]
    kind = "a100-sxm-40gb" if small else hardware
    if "purchase" in said or re.search(r"\b(buy|bought|street)\b", said):
        bought = purchase_of(kind)
        if bought is None or bought.purchase is None:
            raise NotFound("purchase price of", kind)
        inputs.remark = f"{bought.seller}, {bought.as_of}"
        return bought.purchase
    rows = [
        one
        for one in list_prices()
        if one.hardware == kind and one.on_demand is not None and (not named or one.seller in named)
    ]
    if not rows:
        where = f" at {named[0]}" if named else ""
        raise NotFound("dated rent of", f"{kind}{where}", known=sorted({one.hardware for one in list_prices()}))
    # The nearest date: the table keeps the newest price of each seller only.
    wanted = _day(str(inputs.given.get("date", "")))
    rows.sort(key=lambda one: abs((one.as_of - wanted).days) if wanted else 0)
    prices = [one.on_demand or 0.0 for one in rows]
    if len(rows) > 1 and (inputs.published == 2 or inputs.unit.strip().lower() in ("x", "factor", "ratio")):
        inputs.remark = f"{len(rows)} sellers, {rows[0].as_of}"
        return (min(prices), max(prices)) if inputs.published == 2 else max(prices) / min(prices)
    inputs.remark = f"{rows[0].seller}, {rows[0].as_of}"
    if inputs.published == 1:
        return prices[0]
    return tuple(price for price in (rows[0].on_demand, rows[0].one_year, rows[0].three_years) if price is not None)[
        : inputs.published
    ]


def _day(text: str) -> date | None:
    """A day, a month (its middle) or a year (its middle); None where nothing is said. Raises `ValueError`."""
    if not text:
        return None
    parts = [int(part) for part in text.split("-")]
    return date(parts[0], parts[1] if len(parts) > 1 else 7, parts[2] if len(parts) > 2 else 15)


def _shares(inputs: Inputs) -> Figure:
    hardware = inputs.hardware() if inputs.has("gpu") else find_published_hardware("H100")
    bought = purchase_of(hardware.name)
    return development_shares(hardware, bought.purchase or 0.0 if bought else 0.0, Assumptions())


def _serving(inputs: Inputs) -> Figure:
    """Tokens a second of one machine within the limits of MLPerf: measured where published, else by roofline."""
    asked = f"{inputs.question} {inputs.given.get('gpu', '')} {inputs.given.get('model', '')}"
    found = re.search(r"([A-Za-z][\w.-]*-\d+(?:\.\d+)?[bB])", asked)
    shape = find_published_model(str(inputs.given.get("model") or (found.group(1) if found else asked)))
    hardware = find_published_hardware(asked)
    counted = re.search(r"(\d+)\s*x\s*[A-Za-z]", asked)
    devices = int(inputs.number("gpus", "devices", default=float(counted.group(1)) if counted else 8.0))
    scenarios = [name for name in ("server", "interactive") if inputs.has(f"{name}_ttft_p99_s", f"{name}_tpot_p99_ms")]
    if not scenarios:
        raise CaseLacks("server_ttft_p99_s and server_tpot_p99_ms")
    rates = []
    for name in scenarios:
        load = Load(
            input_tokens=inputs.number("input_tokens", default=MLPERF_INPUT),
            output_tokens=inputs.number("output_tokens", default=MLPERF_OUTPUT),
            context_tokens=MLPERF_CONTEXT,
            first_token_s=inputs.number(f"{name}_ttft_p99_s"),
        )
        token_s = inputs.number(f"{name}_tpot_p99_ms") / 1e3
        # Submitters on NVIDIA's hardware serve with TensorRT-LLM, on AMD's with vLLM.
        engine = "vllm" if hardware.name.startswith("mi") else "trtllm"
        rates.append(best_rate(shape, hardware, load, token_s=token_s, devices=devices, engine=engine))
    estimated = " / ".join(f"{rate:,.0f}" for rate in rates)
    known = [
        published_rates(shape.name, hardware.name, devices, scenario=name, question=inputs.question)
        for name in scenarios
    ]
    measured = [(one.low + one.high) / 2 for one in known if one is not None]
    if len(measured) == len(rates):
        inputs.remark = f"published measurement, not a formula; the roofline gives {estimated}"
        return tuple(measured)
    return tuple(rates)


def _byte_unit(inputs: Inputs, usual: float) -> float:
    words = re.split(r"[^a-z]+", inputs.unit.lower())
    return next((size for name, size in BYTES.items() if name in words), usual)


SHORT = {
    "Amazon Web Services": ("aws", "amazon"),
    "Google Cloud": ("gcp", "google"),
    "Microsoft Azure": ("azure", "microsoft"),
    "Oracle Cloud": ("oracle", "oci"),
    "Lambda": ("lambda",),
    "Oblivus": ("oblivus",),
    "Cudo Compute": ("cudo",),
}
FORMULAS: dict[str, Callable[[Inputs], Figure]] = {
    "api_cost": _api,
    "api_revenue_with_cache": _api,
    "gpu_cost": _gpu,
    "price_trend": _trend,
    "break_even": _break_even,
    "on_prem_break_even": _own_break_even,
    "training_cost": _training,
    "training_cost_range": _run,
    "training_hours": lambda inputs: pretraining_hours(
        inputs.parameters(active=True), inputs.number("tokens"), inputs.hardware()
    ),
    "training_flop": lambda inputs: training_flop(inputs.parameters(active=True), inputs.number("tokens")),
    "cost_shares": _shares,
    "memory_weights": _weights,
    "memory_kv": _cache,
    "memory_finetune": _tuning_memory,
    "finetune_api": _finetune_api,
    "finetune_cost": _training,
    "batch_discount": _batch,
    "gpu_price": _gpu_price,
    "serving_gpu_sizes": _serving,
}
"""By `kind` of a case. Each returns dollars, bytes, hours or requests in the unit that the case names."""
