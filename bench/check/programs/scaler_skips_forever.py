# rows 25 | rule scaler-skips
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 1))
opt = torch.optim.Adam(net.parameters(), 1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
x, y = torch.rand(50, 5), torch.rand(50, 1)
y[7] = float("inf")  # fault
for step in range(20):
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    scaler.scale(loss).backward()
    scaler.step(opt)  # here
    scaler.update()
    print(step, loss.item())
