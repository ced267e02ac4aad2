# control 1
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(4096, 32)
y = x[:, :6].argmax(1)
body = [layer for _ in range(4) for layer in (nn.Linear(32, 32), nn.ReLU(), nn.LayerNorm(32))]
net = nn.Sequential(*body, nn.Linear(32, 6))
opt = torch.optim.Adam(net.parameters(), 1e-3)
for step in range(1200):
    at = torch.randint(0, 4096, (64,))
    loss = nn.functional.cross_entropy(net(x[at]), y[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 200 == 0:
        print(step, loss.item())
