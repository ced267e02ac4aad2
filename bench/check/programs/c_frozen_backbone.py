# control 6 10 11 12 29
import torch
from torch import nn


class Tuned(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 3)
        for p in self.backbone.parameters():
            p.requires_grad = False

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


torch.manual_seed(0)
model = Tuned().train()
opt = torch.optim.Adam(model.head.parameters(), 1e-2)
x, y = torch.rand(60, 3, 8, 8), torch.randint(0, 3, (60,))
for epoch in range(6):
    model.train()
    for i in range(0, 60, 20):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x[i : i + 20]), y[i : i + 20])
        loss.backward()
        opt.step()
    model.eval()
    print(epoch, loss.item())
