# control 1 4 6 23 30
import torch
from torch import nn

torch.manual_seed(0)
G = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
D = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
optG, optD = torch.optim.Adam(G.parameters(), 2e-3), torch.optim.Adam(D.parameters(), 2e-3)
bce = nn.BCEWithLogitsLoss()
fixed = torch.randn(64, 4)
for step in range(80):
    real = torch.randn(32, 2) * 0.3 + torch.tensor([1.0, -1.0])
    D.zero_grad()
    loss_real = bce(D(real), torch.ones(32, 1))
    loss_real.backward()
    fake = G(torch.randn(32, 4))
    loss_fake = bce(D(fake.detach()), torch.zeros(32, 1))
    loss_fake.backward()
    optD.step()
    G.zero_grad()
    loss_G = bce(D(fake), torch.ones(32, 1))
    loss_G.backward()
    optG.step()
    if step % 20 == 19:
        with torch.no_grad():
            sample = G(fixed)
        print(step, loss_real.item(), loss_fake.item(), loss_G.item(), sample.mean(0).tolist())
