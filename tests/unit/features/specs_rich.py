"""A spec that says everything that the grammar knows."""

RICH = """
money:
  base: EUR
  rates_version: "1"
  rates: {EUR: "1", USD: "0.5"}
event_types:
  card_payment: {primary: card}
  refund: {primary: card}
  login: {primary: card, amount_required: false}
limits: {head_events: 4, label_head_events: 3, blob_max_bytes: 65536}
filters:
  ecom: {channel: [ecom, moto]}
  large: {amount: {at_least: 100.00}}
  abroad:
    country: {not: FR}
    event_type: card_payment
place: {latitude: lat, longitude: lon}
entities:
  card:
    count: [1h, 24h]
    first: [24h]
    last: [24h]
    ewma: [24h, 7d]
    distinct: {merchant: [1h]}
    since_last: true
    is_new: true
    changed: [country, device]
    distance: true
    where:
      large: {count: [24h], last: [1h]}
      ecom:
        count: [10m]
        sum: [24h]
        distinct: {merchant: [24h]}
    fraud_count: [90d]
  merchant:
    count: [1h]
  card_merchant:
    key: [card, merchant]
    sum: [30d]
    is_new: true
    fraud_count: [30d]
calendar: [night]
ratios:
  - card_merchant.sum_of_amount_over_30d / card.ewma_of_amount_over_7d
  - card.count_over_24h_where_large / card.count_over_24h
categories: {mcc: 1024, merchant: 65536}
"""
