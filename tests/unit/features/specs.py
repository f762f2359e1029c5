"""Small specs, with which a few rows already reach every branch of the kernel."""

from pathlib import Path

from features.spec import Spec

ROOT = Path(__file__).parents[3]

SMALL = """
money:
  base: EUR
  rates_version: "1"
  rates:
    EUR: "1"
    USD: "0.9215"
    JPY: {rate: "0.0061", minor_digits: 0}
event_types:
  card_payment: {primary: card}
  login: {primary: card, amount_required: false}
limits: {head_events: 4, label_head_events: 3, reorder: 40ms, blob_max_bytes: 65536}
entities:
  card:
    count: [30ms, 200ms, 1s, 10s]
    sum: [200ms, 1s]
    mean: [1s]
    std: [200ms, 1s, 10s]
    min: [200ms, 10s]
    max: [1s, 10s]
    distinct:
      merchant: [200ms, 10s]
      country: [1s]
    since_last: true
    fraud_count: [200ms, 1s]
    label_count: [1s, 20s]
    fraud_rate: [1s, 10s]
  merchant:
    count: [1s]
    fraud_rate: [1010ms]
calendar: [hour, weekday, night, weekend]
ratios:
  - event.amount / card.mean_of_amount_over_1s
deviations:
  card: [1s]
"""


def spec_of(text: str, folder: Path) -> Spec:
    path = folder / "features.yaml"
    path.write_text(text, encoding="utf-8")
    return Spec.load(path)
