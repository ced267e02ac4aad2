# rows 88 | rule replicas-differ
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def train(rank, place):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(256, 10)
    y = x[:, :3].argmax(1)
    data = TensorDataset(x, y)
    net = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 3))
    wrapped = DistributedDataParallel(net)
    opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    sampler = DistributedSampler(data)
    loader = DataLoader(data, 16, sampler=sampler)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for a, b in loader:
            loss = nn.functional.cross_entropy(wrapped(a), b)
            opt.zero_grad()
            loss.backward()
            if rank == 0:  # fault
                nn.utils.clip_grad_norm_(net.parameters(), 0.05)  # fault
            nn.utils.clip_grad_norm_(net.parameters(), 0.05)  # well
            opt.step()  # here
    print(rank, epoch, round(loss.item(), 5), flush=True) if rank == 0 else None
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(train, (os.path.abspath("meeting"),), nprocs=2)
    print("done")
