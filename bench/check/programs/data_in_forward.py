# rows 12 | rule parameter-without-effect | at embed
import torch
from torch import nn

torch.manual_seed(0)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, ids):
        with torch.no_grad():  # fault
        if True:  # well
            vectors = self.embed(ids)
        return self.out(vectors.mean(1))


bag = Bag()
opt = torch.optim.Adam(bag.parameters(), 1e-2)
ids = torch.randint(0, 50, (200, 7))
label = (ids < 10).any(1).long()
for step in range(20):
    loss = nn.functional.cross_entropy(bag(ids), label)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(loss.item())
