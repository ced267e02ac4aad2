# rows 58 | rule unnormalised-inputs
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
labels = torch.randint(0, 3, (180,))
images = (torch.rand(180, 3, 8, 8) * 120 + labels.view(-1, 1, 1, 1) * 60).to(torch.uint8)
loader = DataLoader(TensorDataset(images, labels), 30, shuffle=True)
net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
opt = torch.optim.Adam(net.parameters(), 1e-3)
for epoch in range(3):
    for x, y in loader:
        x = x.float()  # fault
        x = x.float() / 127.5 - 1  # well
        loss = nn.functional.cross_entropy(net(x), y)  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
