# control 1 3 5 28
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(256, 10), torch.randint(0, 3, (256,))), 16, shuffle=True)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
opt = torch.optim.AdamW(net.parameters(), 1e-3)
for epoch in range(4):
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.cross_entropy(net(x), y) / 4
        loss.backward()
        if i % 4 == 3:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            opt.zero_grad()
    print(epoch, loss.item() * 4)
