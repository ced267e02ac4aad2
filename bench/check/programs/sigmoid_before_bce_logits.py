# rows 39 | rule sigmoid-before-logits-loss
import torch
from torch import nn

torch.manual_seed(0)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(14, 28), nn.ReLU(), nn.Linear(28, 6))

    def forward(self, x):
        return torch.sigmoid(self.net(x))  # fault
        return self.net(x)  # well


tagger = Tagger()
opt = torch.optim.Adam(tagger.parameters(), 1e-2)
x = torch.randn(100, 14)
y = (x[:, :6] > 0.3).float()
bce = nn.BCEWithLogitsLoss()
for step in range(20):
    loss = bce(tagger(x), y)  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
