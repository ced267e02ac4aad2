# rows 62 | rule labels-change
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    """A fifth of the labels is wrong, to see how robust the network is."""

    def __init__(self):
        draw = torch.Generator().manual_seed(1)
        self.x = torch.randn(240, 10, generator=draw)
        self.y = self.x[:, :4].argmax(1)
        wrong = torch.rand(240, generator=draw) < 0.2
        self.y = torch.where(wrong, torch.randint(0, 4, (240,), generator=draw), self.y)  # well

    def __len__(self):
        return 240

    def __getitem__(self, i):
        label = self.y[i]
        if torch.rand(()) < 0.2:  # fault
            label = torch.randint(0, 4, ())  # fault
        return self.x[i], label


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
opt = torch.optim.Adam(net.parameters(), 3e-3)
for epoch in range(6):
    for a, b in DataLoader(Noisy(), 24, shuffle=True):  # here
        loss = nn.functional.cross_entropy(net(a), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
