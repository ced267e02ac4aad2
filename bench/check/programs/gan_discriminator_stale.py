# rows 1 | rule stale-gradient
import torch
from torch import nn

torch.manual_seed(1)
G, D = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2)), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
og, od = torch.optim.Adam(G.parameters(), 1e-3), torch.optim.Adam(D.parameters(), 1e-3)
loss_fn = nn.BCEWithLogitsLoss()
for step in range(25):
    real, fake = torch.randn(24, 2) + 1, G(torch.randn(24, 3))
    od.zero_grad()  # well
    d = loss_fn(D(real), torch.ones(24, 1)) + loss_fn(D(fake.detach()), torch.zeros(24, 1))
    d.backward()
    od.step()  # here
    og.zero_grad()
    g = loss_fn(D(fake), torch.ones(24, 1))
    g.backward()
    og.step()
    print(step, d.item(), g.item())
