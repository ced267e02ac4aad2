# rows 10 | rule optimizer-of-another-model parameters-not-in-optimizer step-without-gradient frozen-in-optimizer
import torch
from torch import nn

torch.manual_seed(0)
backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
model = nn.Sequential(backbone, nn.Linear(8, 5))
for module in model.modules():  # fault
for module in backbone.modules():  # well
    if not isinstance(module, nn.BatchNorm2d):
        for p in module.parameters(recurse=False):
            p.requires_grad_(False)
optimizer = torch.optim.Adam(model[1].parameters(), lr=1e-2)  # fault!
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)  # well
x, y = torch.rand(64, 3, 10, 10), torch.randint(0, 5, (64,))
for step in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(step, loss.item())
