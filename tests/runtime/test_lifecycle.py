import subprocess
import sys

from novel_agent.runtime.lifecycle import share_one_heap


def test_threads_share_the_heap():
    assert share_one_heap()


def test_threads_do_not_add_heaps_to_a_process():
    script = """
import threading
from novel_agent.runtime.lifecycle import share_one_heap

assert share_one_heap()
began = threading.Barrier(5)
held = []

def allocate():
    began.wait()
    held.append([bytes(1000) for _ in range(1000)])

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
began.wait()
for thread in threads:
    thread.join()
# a heap of a thread is 64 MiB of address space, nearly all of it not accessible
inaccessible = [line for line in open("/proc/self/maps") if " ---p " in line]
sizes = [int(line.split()[0].split("-")[1], 16) - int(line.split("-")[0], 16) for line in inaccessible]
print(sum(32 << 20 < size <= 64 << 20 for size in sizes))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "0"
