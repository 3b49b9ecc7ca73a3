from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from splinellm.errors import ConfigurationError
from splinellm.learn import DiskStore, MemoryStore


def row(*values):
    return np.array(values, np.float32)


def test_memory_store_lets_the_least_recently_used_go():
    store = MemoryStore(max_bytes=3 * (4 + 250))
    for name in (b"a", b"b", b"c"):
        store.put({name: row(1)})
    store.get([b"a"])
    store.put({b"d": row(1), b"c": row(2)})
    assert sorted(store.get([b"a", b"b", b"c", b"d"])) == [b"a", b"c", b"d"]
    assert store.get([b"c"])[b"c"] == row(2)
    store.clear()
    assert len(store) == 0


def test_memory_store_does_not_keep_the_table_alive():
    table = np.zeros((1000, 4), np.float32)
    store = MemoryStore()
    store.put({b"a": table[0]})
    assert store.get([b"a"])[b"a"].base is None


def test_disk_store_looks_many_keys_up_in_few_queries(tmp_path):
    store = DiskStore(tmp_path / "f.sqlite")
    rows = {b"%d" % n: row(n, -n) for n in range(1201)}
    store.put(rows)
    statements = []
    connect = store._connect

    def traced():
        connection = connect()
        connection.set_trace_callback(statements.append)
        return connection

    store._connect = traced
    found = store.get([*rows, b"none"])
    assert len(statements) == 3
    assert found.keys() == rows.keys()
    np.testing.assert_array_equal(found[b"1200"], rows[b"1200"])


def test_disk_store_drops_the_oldest_rows(tmp_path):
    store = DiskStore(tmp_path / "f.sqlite", max_bytes=200_000)
    row_ = np.zeros(250, np.float32)
    for start in range(0, 600, 20):
        store.put({b"%d" % n: row_ for n in range(start, start + 20)})
    assert 100 < len(store) < 250
    assert store.get([b"0", b"599"]).keys() == {b"599"}
    assert store.path.stat().st_size < 400_000


def test_processes_make_and_fill_one_file_at_once(tmp_path):
    code = f"""
import sys, numpy as np
from splinellm.learn import DiskStore
for n in range(40):
    store = DiskStore({str(tmp_path / "f.sqlite")!r})
    store.put({{f"{{sys.argv[1]}}.{{n}}".encode(): np.float32([n]), b"shared": np.float32([7])}})
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, name], stderr=subprocess.PIPE)
        for name in "ab"
    ]
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    store = DiskStore(tmp_path / "f.sqlite")
    found = store.get([f"{name}.{n}".encode() for name in "ab" for n in range(40)])
    assert len(found) == 80
    assert len(store) == 81


def test_threads_share_a_disk_store(tmp_path):
    store = DiskStore(tmp_path / "f.sqlite")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put({b"%d" % n: row(n)}), range(40)))
    assert len(store) == 40


def overwrite_all(path):
    path.write_bytes(b"no database " * 1000)


def overwrite_pages(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def older_layout(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 0")
    connection.close()


@pytest.mark.parametrize("damage", [overwrite_all, overwrite_pages, cut])
@pytest.mark.parametrize("while_open", [True, False])
def test_damaged_file_is_put_aside_and_begun_anew(tmp_path, damage, while_open, caplog):
    path = tmp_path / "f.sqlite"
    store = DiskStore(path)
    rows = {b"%d" % n: row(*range(200)) for n in range(50)}
    store.put(rows)
    damage(path)
    with caplog.at_level(logging.WARNING):
        store = store if while_open else DiskStore(path)
        assert not store.get(rows)
        store.put(rows)
    assert len(store.get(rows)) == 50
    assert "damaged" in caplog.text
    assert (tmp_path / "f.sqlite.corrupt").exists()


def test_file_that_was_deleted_meanwhile_is_made_again(tmp_path):
    store = DiskStore(tmp_path / "f.sqlite")
    store.path.unlink()
    store.put({b"a": row(1)})
    assert len(store.get([b"a"])) == 1


def test_older_layout_is_replaced(tmp_path):
    DiskStore(tmp_path / "f.sqlite").put({b"a": row(1)})
    older_layout(tmp_path / "f.sqlite")
    assert len(DiskStore(tmp_path / "f.sqlite")) == 0


def test_damaged_row_is_a_miss(tmp_path):
    store = DiskStore(tmp_path / "f.sqlite")
    store.put({b"a": row(1), b"b": row(2)})
    connection = sqlite3.connect(store.path)
    connection.execute("UPDATE features SET row = zeroblob(4) WHERE key = ?", (b"a",))
    connection.commit()
    connection.close()
    assert store.get([b"a", b"b"]).keys() == {b"b"}


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="not a feature cache"):
        DiskStore(path)
    assert path.read_bytes() == before


def test_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="SPLINELLM_CACHE"):
        DiskStore(tmp_path / "file" / "f.sqlite")
