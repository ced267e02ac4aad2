# rows 66 | rule image-layout
import torch
from torch import nn

torch.manual_seed(0)
images = torch.rand(48, 32, 32, 3)
labels = (images[..., 0].mean((1, 2)) > 0.5).long()
net = nn.Sequential(nn.Conv2d(32, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))  # fault
net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))  # well
opt = torch.optim.SGD(net.parameters(), 0.05)
for epoch in range(3):
    for i in range(0, 48, 16):
        x = images[i : i + 16]  # fault
        x = images[i : i + 16].permute(0, 3, 1, 2)  # well
        loss = nn.functional.cross_entropy(net(x), labels[i : i + 16])  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
