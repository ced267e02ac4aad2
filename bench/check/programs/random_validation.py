# rows 69 | rule random-evaluation-data
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    def __init__(self, count, train):
        make = torch.Generator().manual_seed(count)
        self.x, self.y = torch.randn(count, 1, 6, 6, generator=make), torch.randint(0, 2, (count,), generator=make)
        self.train = train

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if True:  # fault
        if self.train:  # well
            x = x + 0.2 * torch.randn_like(x)
        return x, self.y[i]


torch.manual_seed(0)
train, valid = DataLoader(Shapes(120, True), 20, shuffle=True), DataLoader(Shapes(60, False), 20)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(4):
    for x, y in train:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
    with torch.no_grad():
        for x, y in valid:  # here
            score = (net(x).argmax(1) == y).float().mean().item()
    print(epoch, loss.item(), score)
