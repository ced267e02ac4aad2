# rows 44 | rule clipped-logits
import torch
from torch import nn

torch.manual_seed(0)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2 = nn.Linear(16, 40), nn.Linear(40, 5)

    def forward(self, x):
        h = torch.relu(self.l1(x))
        return torch.relu(self.l2(h))  # fault
        return self.l2(h)  # well


c = Classifier()
opt = torch.optim.Adam(c.parameters(), 1e-3)
x = torch.randn(150, 16)
y = x[:, :5].argmax(1)
for epoch in range(5):
    for i in range(0, 150, 30):
        loss = nn.functional.cross_entropy(c(x[i : i + 30]), y[i : i + 30])  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
