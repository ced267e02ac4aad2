# rows 55 | rule worker-generators
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self):
        self.x = torch.linspace(0, 1, 96)
        self.rng = np.random.default_rng(0)  # fault

    def __len__(self):
        return 96

    def __getitem__(self, i):
        noise = self.rng.normal()  # fault
        noise = torch.randn(()).item()  # well
        return self.x[i : i + 1] + 0.1 * noise, self.x[i : i + 1] ** 2


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), 1e-2)
loader = DataLoader(Noisy(), 16, shuffle=True, num_workers=2)
for epoch in range(2):
    for x, y in loader:  # here
        loss = nn.functional.mse_loss(net(x.float()), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
