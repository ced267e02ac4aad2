# rows 31 | rule dropout-in-eval
import torch
from torch import nn


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(12, 12)
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        h = nn.Dropout(0.3)(torch.relu(self.fc(x)))  # fault
        h = self.drop(torch.relu(self.fc(x)))  # well
        return self.out(h).squeeze(-1)


torch.manual_seed(0)
head = Head()
opt = torch.optim.AdamW(head.parameters(), 3e-3)
x = torch.randn(90, 12)
y = x.abs().mean(1)
for epoch in range(6):
    head.train()
    opt.zero_grad()
    loss = nn.functional.smooth_l1_loss(head(x[:60]), y[:60])
    loss.backward()
    opt.step()
    head.eval()
    with torch.no_grad():
        print(epoch, loss.item(), nn.functional.l1_loss(head(x[60:]), y[60:]).item())
