# rows 59 | rule unnormalised-inputs
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    def __init__(self, count):
        make = torch.Generator().manual_seed(0)
        self.y = torch.randint(0, 2, (count,), generator=make)
        self.x = torch.randint(0, 200, (count, 1, 8, 8), generator=make) + 50 * self.y.view(-1, 1, 1, 1)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i].float() / 255, self.y[i]


torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2))
opt = torch.optim.Adam(net.parameters(), 2e-3)
for epoch in range(2):
    for x, y in DataLoader(Pictures(120), 20, shuffle=True):
        x = x / 255  # fault
        loss = nn.functional.cross_entropy(net(x), y)  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
