"""Opens the snapshots below a directory with DuckDB and prints what it finds there as one JSON object.

usage: check_duckdb.py DIRECTORY
"""

import json
import sys

import duckdb

db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
files = (sys.argv[1] + "/snapshots/dt=*/part-*.parquet").replace("'", "''")
db.execute(
    f"CREATE VIEW customers AS SELECT * FROM read_parquet('{files}', hive_partitioning = true, union_by_name = true)"
)


def one(sql):
    return db.execute(sql).fetchone()


rows, net, lifetime, days, bought, probability, consents = one(
    """SELECT count(*), sum(net_revenue)::VARCHAR, sum(net_revenue_lifetime)::VARCHAR, list_sort(list(DISTINCT dt::VARCHAR)),
              count(last_order_at), sum(round(churn_probability * 1e6)::BIGINT)::BIGINT,
              count(*) FILTER (json_extract_string(consent, '$.email') = 'granted')
       FROM customers"""
)
result = {
    "rows": rows,
    "net_revenue": net,
    "net_revenue_lifetime": lifetime,
    "days": days,
    "with_orders": bought,
    "churn_probability_millionths": probability,
    "email_granted": consents,
    "segments": dict(db.execute("SELECT segment, count(*) FROM customers GROUP BY ALL ORDER BY ALL").fetchall()),
    "as_of": one("SELECT list(DISTINCT strftime(as_of, '%Y-%m-%dT%H:%M:%S.%gZ')) FROM customers")[0],
    "types": {name: kind for name, kind, *_ in db.execute("DESCRIBE customers").fetchall()},
}
# An id is looked for by the statistics of sorted files.
first = one("SELECT min(customer_id) FROM customers")[0]
result["first"] = [first, one(f"SELECT count(*) FROM customers WHERE customer_id = '{first}'")[0]]
json.dump(result, sys.stdout)
