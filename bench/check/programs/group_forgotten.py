# rows 6 | rule parameters-not-in-optimizer | at encoder
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
        self.body = nn.Linear(32, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(torch.relu(self.body(self.encoder(x))))


torch.manual_seed(0)
model = Model()
x, y = torch.randn(128, 16), torch.randint(0, 4, (128,))
groups = [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 1e-2}]  # fault
groups = [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 1e-2}, {"params": model.encoder.parameters()}]  # well
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for step in range(25):
    pick = torch.randint(0, 128, (32,))
    loss = nn.functional.cross_entropy(model(x[pick]), y[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
