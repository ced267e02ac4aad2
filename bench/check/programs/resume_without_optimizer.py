# rows 22 | rule resumed-without-state
import os
import tempfile

import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(80, 6), torch.randn(80, 1)


def build():
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
    return net, torch.optim.Adam(net.parameters(), 1e-2)


def fit(net, opt, steps):
    for _ in range(steps):
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        opt.step()
    print(loss.item())


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "last.pt")
    net, opt = build()
    fit(net, opt, 8)
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 8}, path)
    net, opt = build()
    state = torch.load(path)
    net.load_state_dict(state["model"])  # here
    opt.load_state_dict(state["optimizer"])  # well
    fit(net, opt, 8)
