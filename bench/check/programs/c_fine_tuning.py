# control 22 13 8
import io

import torch
from torch import nn

torch.manual_seed(0)
base = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
buffer = io.BytesIO()
torch.save(base.state_dict(), buffer)
buffer.seek(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
net.load_state_dict(torch.load(buffer))
net[2] = nn.Linear(16, 2)
opt = torch.optim.AdamW([{"params": net[0].parameters(), "lr": 1e-4}, {"params": net[2].parameters(), "lr": 1e-2}])
x = torch.randn(100, 8)
y = (x[:, 0] > 0).long()
for step in range(20):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    print(step, loss.item())
