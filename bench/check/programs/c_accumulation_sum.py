# control 28 45
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(160, 6), torch.randn(160, 1)
net = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1))
opt = torch.optim.Adam(net.parameters(), 3e-3)
for epoch in range(8):
    for rows in torch.randperm(160).split(80):
        opt.zero_grad(set_to_none=False)
        total = 0.0
        for part in rows.split(20):
            loss = nn.functional.mse_loss(net(x[part]), y[part], reduction="sum")
            loss.backward()
            total += loss.item()
        for p in net.parameters():
            p.grad /= len(rows)
        opt.step()
    print(epoch, total / len(rows))
