# control 30 31
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(120, 6)
y = x[:, :1] ** 2
for step in range(20):
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x[:80]), y[:80])
    loss.backward()
    opt.step()
net.eval()
for m in net.modules():
    if isinstance(m, nn.Dropout):
        m.train()
with torch.no_grad():
    draws = torch.stack([net(x[80:]) for _ in range(10)])
print(loss.item(), draws.mean().item(), draws.std(0).mean().item())
