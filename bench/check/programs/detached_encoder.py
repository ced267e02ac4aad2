# rows 12 | rule parameter-without-effect | at encoder
import torch
from torch import nn


class AutoClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 16), nn.ReLU())
        self.classifier = nn.Linear(16, 4)

    def forward(self, x):
        features = self.encoder(x).detach()  # fault
        features = self.encoder(x)  # well
        return self.classifier(features)


torch.manual_seed(0)
model = AutoClassifier()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
x = torch.randn(160, 20)
y = x[:, :4].argmax(1)
for epoch in range(6):
    for xb, yb in zip(x.split(32), y.split(32)):
        loss = nn.functional.cross_entropy(model(xb), yb)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
