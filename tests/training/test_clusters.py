"""Which workers there are, by the environments that schedulers make; and waiting for them."""

import json
import socket
import threading
import time

import pytest

from robust_tf.training import MissingWorkerError, cluster, waiting

TWO = {"worker": ["a:1", "b:2"]}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_JOB_ID", "JOB_COMPLETION_INDEX", "ROBUST_TF_WORKERS"):
        monkeypatch.delenv(name, raising=False)


def config(jobs, job="worker", index=0):
    return json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})


def test_tf_config():
    found = cluster.from_tf_config(config(TWO, index=1))
    assert (found.address, found.others, found.source) == ("b:2", ["a:1"], "TF_CONFIG")
    # As Kubeflow writes it; the chief is the first, and parameter servers are none of the workers.
    jobs = {"worker": ["b:2", "c:3"], "chief": ["a:1"], "ps": ["p:9"]}
    found = cluster.from_tf_config(config(jobs, index=1))
    assert (found.address, found.others) == ("c:3", ["a:1", "b:2"])
    spec = found.resolver().cluster_spec().as_dict()
    assert spec == {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
    assert (found.resolver().task_type, found.resolver().task_id) == ("worker", 1)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "cannot read.*TF_CONFIG"),
        ("[]", "cannot read"),
        ("{}", "no 'cluster'"),
        (json.dumps({"cluster": TWO}), "no 'task'"),
        (config({"worker": []}), "the cluster has no 'worker'"),
        (config({"worker": "a:1"}), "'worker' must be a list"),
        (config({"worker": ["a"]}), "'a' is no 'host:port'"),
        (config(TWO, index=2), "number 2 of type 'worker'.*2 of type 'worker'"),
        (config({**TWO, "ps": ["p:1"]}, job="ps"), "number 0 of type 'ps'.*'chief' or 'worker'"),
    ],
)
def test_tf_config_that_is_wrong_says_what(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        cluster.find()


def test_nothing_found_says_what_was_looked_for():
    with pytest.raises(ValueError, match=r"finds no cluster.*TF_CONFIG.*srun.*Kubernetes"):
        cluster.find()


def slurm(monkeypatch, **values):
    found = {
        "JOB_ID": "1234567",
        "PROCID": "0",
        "LOCALID": "0",
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "n[9-11],login",
        "STEP_TASKS_PER_NODE": "1(x4)",
    }
    for name, value in {**found, **values}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_slurm_knows_a_task_by_its_node(monkeypatch):
    """TensorFlow's resolver sorts nodes as texts; the task of n9 is still that of n9."""
    for number, node in enumerate(("n9", "n10", "n11", "login")):
        slurm(monkeypatch, PROCID=str(number))
        monkeypatch.setenv("SLURMD_NODENAME", node)
        found = cluster.find()
        host, port = found.address.split(":")
        assert host == node and len(found.others) == 3 and found.source == "Slurm"
        assert 16384 <= int(port) < 32768


def test_tasks_on_one_node_have_ports_of_their_own(monkeypatch):
    addresses = []
    for number in range(4):  # a cyclic distribution: tasks 0 and 2 on a, 1 and 3 on b
        slurm(monkeypatch, STEP_NODELIST="a,b", STEP_TASKS_PER_NODE="2(x2)", PROCID=str(number))
        monkeypatch.setenv("SLURM_LOCALID", str(number // 2))
        monkeypatch.setenv("SLURMD_NODENAME", "ab"[number % 2])
        addresses.append(cluster.find().address)
    assert len(set(addresses)) == 4
    assert [address[0] for address in addresses] == ["a", "b", "a", "b"]


def test_slurm_jobs_next_to_each_other_share_no_port(monkeypatch):
    ports = []
    for job in ("1000", "1001"):
        slurm(monkeypatch, JOB_ID=job, STEP_NODELIST="a", STEP_TASKS_PER_NODE="4")
        found = cluster.find()
        ports.append({address.split(":")[1] for address in [found.address, *found.others]})
    assert not ports[0] & ports[1]


def test_slurm_without_a_step_says_srun(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(ValueError, match=r"job 7, but not .*SLURM_STEP_NODELIST.*srun"):
        cluster.find()


def test_kubernetes(monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    with pytest.raises(ValueError, match=r"number 1 of an indexed Job.*ROBUST_TF_WORKERS=''"):
        cluster.find()
    monkeypatch.setenv("ROBUST_TF_WORKERS", "3")
    monkeypatch.setattr(socket, "getfqdn", lambda: "train-1")
    with pytest.raises(ValueError, match=r"calls itself 'train-1', .*subdomain"):
        cluster.find()
    monkeypatch.setattr(socket, "getfqdn", lambda: "train-1.team.lab.svc.cluster.local")
    found = cluster.find()
    assert found.address == "train-1.team.lab.svc.cluster.local:8470"
    assert [other.split(".")[0] for other in found.others] == ["train-0", "train-2"]


def free_ports(count):
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@pytest.fixture
def three(monkeypatch):
    """A cluster of three workers on this machine, by their number; words are said at once."""
    monkeypatch.setattr(waiting, "_PAUSE", 0.02)
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    hosts = [f"127.0.0.1:{port}" for port in free_ports(3)]
    return [cluster.from_tf_config(config({"worker": hosts}, index=i)) for i in range(3)]


def until(true):
    """Waits, a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_workers_that_come_one_after_the_other_find_each_other(three):
    """Each is there for the others while it waits; it may go on where it has seen them all."""
    said, done = [[] for _ in three], []

    def come(number):
        waiting.wait(three[number], 1, said[number].append)
        with waiting._listening(three[number]):  # as TensorFlow's server does from then on
            done.append(number)
            until(lambda: len(done) == 3)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(3)]
    threads[0].start()
    until(lambda: said[0])
    threads[1].start()
    until(lambda: "2 of 3 workers" in said[0][-1])
    threads[2].start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [0, 1, 2]
    mine, second, third = (one.address for one in three)
    refused = "(connection refused)"
    assert said[0][0].startswith(f"{mine} waits for {second} {refused}, {third} {refused}: ")
    assert "1 of 3 workers" in said[0][0] and second not in said[0][-1]


def test_a_worker_gives_up_and_says_for_whom_it_waited(three):
    said = []
    with pytest.raises(MissingWorkerError, match=r"--wait_minutes") as error:
        waiting.wait(three[1], 0.02, said.append)
    for address in (three[0].address, three[2].address):
        assert address in str(error.value)
        assert all(address in line for line in said)
    assert "s of 1, 1 of 3 workers" in said[0]


def test_a_port_that_is_taken(three):
    port = int(three[0].address.split(":")[1])
    with socket.create_server(("", port)), pytest.raises(ValueError, match=rf"port {port}, .*use"):
        waiting.wait(three[0], 1)


def test_a_worker_alone_does_not_wait():
    waiting.wait(cluster.from_tf_config(config({"worker": ["nowhere:1"]})), 1)


def test_a_worker_that_waits_in_the_middle_says_so(monkeypatch):
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    said = []
    with waiting.noted("a:1", ["b:2", "c:3"], said.append):
        until(lambda: len(said) == 2)
    assert said[0].startswith("a:1 waits for b:2, c:3 to come as far: ")
